"""A keeper: which process it kills, and its pauses before the next one."""

from __future__ import annotations

import queue
import threading

from trunkline_service.server.processes.keeper import Keeper, Part, Pauses

from .events import PATIENCE_S


class Process:
    """As a keeper knows one: lives until it is killed."""

    def __init__(self, pid):
        self.pid = pid
        self.ended = threading.Event()

    def messages(self):
        self.ended.wait(PATIENCE_S)
        return iter(())

    def reap(self):
        return -9

    def kill(self):
        self.ended.set()


class Told:
    """A `Listener`."""

    def __init__(self):
        self.pids = queue.SimpleQueue()

    def born(self, part, pid):
        self.pids.put(pid)

    def told(self, part, message):
        pass

    def ended(self, part, how):
        pass


def test_a_keeper_kills_the_process_that_is_meant_and_no_later_one():
    told, stopping = Told(), threading.Event()
    processes = [Process(pid) for pid in (1, 2)]
    left = iter(processes)
    keeper = Keeper(Part("data"), lambda part: next(left), told, stopping)
    keeper.start()
    assert told.pids.get(timeout=PATIENCE_S) == 1
    keeper.kill(2)
    assert not processes[0].ended.is_set()
    keeper.kill(1)
    assert told.pids.get(timeout=PATIENCE_S) == 2
    keeper.kill(1)
    assert not processes[1].ended.is_set()
    stopping.set()
    keeper.kill()
    keeper.join(PATIENCE_S)
    assert processes[1].ended.is_set()


def test_pauses_grow_while_it_dies_at_once_and_begin_anew_when_it_lived():
    pauses = Pauses()
    assert [pauses.after(1) for _ in range(9)] == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert [pauses.after(lived) for lived in (60, 1, 1)] == [0, 0.1, 0.2]
