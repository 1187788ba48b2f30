"""Signals, heeded where locks may be taken."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterable


def heed(numbers: Iterable[int], act: Callable[[], None]) -> None:
    """Calls ``act`` from a thread of its own for each signal that comes; to be called in the main thread.

    A handler runs in the main thread, between any two steps of it: also while that thread holds the lock of the
    very event that the handler would set. Two signals in a row have locked a server up for ever.
    """
    came: queue.SimpleQueue[int] = queue.SimpleQueue()

    def wait() -> None:
        while True:
            came.get()
            act()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    for number in numbers:
        signal.signal(number, lambda number, _frame: came.put(number))
