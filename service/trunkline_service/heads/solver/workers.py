"""Threads for the arithmetic of a fit, each with BLAS on one thread of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


class _OneThreadEach:
    """BLAS on one thread while anybody wants that; the limit belongs to the whole process.

    Of limits that overlap, the one that ends last would restore what the other had set.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    def enter(self) -> None:
        from threadpoolctl import threadpool_limits

        with self._lock:
            if not self._inside:
                self._limit = threadpool_limits(1, "blas")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limit.restore_original_limits()


_one_thread_each = _OneThreadEach()


@contextmanager
def workers() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """An executor with a thread for each core that this process may use, and their number."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    _one_thread_each.enter()
    try:
        with ThreadPoolExecutor(count, thread_name_prefix="fit") as executor:
            yield executor, count
    finally:
        _one_thread_each.leave()
