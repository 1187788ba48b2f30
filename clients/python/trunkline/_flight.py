"""Ending calls that are under way in other threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trunkline.exceptions import Cancelled


class Stop:
    """Ends the calls of one job: cancels those under way, wakes those that pause, refuses new ones."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._lock = threading.Lock()
        self._calls: set[Any] = set()

    def check(self) -> None:
        """Does nothing until `cancel` was called.

        Raises:
            Cancelled: It was.
        """
        if self.event.is_set():
            raise Cancelled("the call was ended before its answer came")

    @contextmanager
    def watching(self, call: Any) -> Iterator[Any]:
        """Cancels the call if `cancel` is called meanwhile, or if the caller leaves early."""
        with self._lock:
            self._calls.add(call)
        try:
            # `cancel` may have come between the call and its registration.
            self.check()
            yield call
        finally:
            with self._lock:
                self._calls.discard(call)
            # No effect on a call that has ended.
            call.cancel()

    def cancel(self) -> None:
        """Ends everything."""
        self.event.set()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()
