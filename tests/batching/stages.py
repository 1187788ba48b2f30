"""Stages made for tests, whose slots they work on, and what that work is."""

from __future__ import annotations

import os
import threading
import time

from trunkline_service.batching.observer import NullObserver
from trunkline_service.batching.request import Slot
from trunkline_service.batching.stage import Stage

PATIENCE_S = 60


class Owner:
    """Whose slots they are; remembers how each ended."""

    def __init__(self, lane="interactive", verdict=None):
        self.lane, self._verdict, self.ended = lane, verdict, []
        self._changed = threading.Condition()

    def verdict(self, now):
        return self._verdict

    def settled(self, slot, error):
        with self._changed:
            self.ended.append((slot, error))
            self._changed.notify_all()

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.ended) >= count, PATIENCE_S)

    def slot(self):
        return Slot(self, 0, None, 1)


class Work:
    """Counts who works at once, and where."""

    def __init__(self):
        self.at_work = self.most_at_work = 0
        self.idents = []
        self._lock = threading.Lock()

    def __call__(self, slots):
        with self._lock:
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            self.idents.append(threading.get_ident())
        # Lets others run, so that they meet here if they can.
        os.sched_yield()
        for slot in slots:
            slot.settle(None)
        with self._lock:
            self.at_work -= 1


def stage_of(work, threads=2, most=1):
    return Stage("work", threads, lambda waiting: min(waiting, most), work, time.monotonic, NullObserver())


def close(stage):
    assert stage.close(time.monotonic() + PATIENCE_S) == 0
