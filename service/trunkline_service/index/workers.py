"""Threads for searches: rows shared out among them, BLAS on one thread in each.

BLAS's own threads wait for each other by spinning. Where something else runs on the machine - decoding,
ONNX Runtime, a writer - a product on two of them took several times as long as on one (seen here: 940 ms
against 375 ms). Threads that each take a part and never wait for one another only share the time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class Workers:
    """At most ``threads`` parts of a search at once; safe to share among threads.

    Args:
        threads: At least 1. With 1, everything runs in the caller's thread.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def shared_out(self, count: int, least: int, run: Callable[[int, int], _Result]) -> list[_Result]:
        """Runs ``run(start, end)`` on ranges that cover ``count`` rows; gives the results in order.

        Args:
            count: Rows.
            least: Rows that are worth a thread.
            run: Called in several threads at once.
        """
        parts = max(1, min(self.threads, count // max(1, least)))
        bounds = [count * part // parts for part in range(parts + 1)]
        with one_blas_thread_each():
            if parts == 1:
                return [run(0, count)]
            rest = [self._executor().submit(run, bounds[part], bounds[part + 1]) for part in range(1, parts)]
            first = run(bounds[0], bounds[1])
            return [first, *(future.result() for future in rest)]

    def close(self) -> None:
        """Ends the threads, once they have nothing to do."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="search")
            return self._pool


class _OneThreadEach:
    """BLAS on one thread while anybody wants that; the limit belongs to the whole process.

    Of limits that overlap, the one that ends last would restore what the other had set.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._libraries: list[Any] | None = None
        self._before: list[int] = []

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                libraries = self._found()
                self._before = [library.num_threads for library in libraries]
                for library in libraries:
                    _limit(library, 1)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for library, threads in zip(self._found(), self._before, strict=True):
                    _limit(library, threads)

    def _found(self) -> list[Any]:
        # Looking for the libraries takes milliseconds; those of NumPy are there before any search.
        if self._libraries is None:
            import numpy.linalg  # noqa: F401
            from threadpoolctl import ThreadpoolController

            found = ThreadpoolController().select(user_api="blas")
            self._libraries = list(found.lib_controllers)
        return self._libraries


def _limit(library: Any, threads: int) -> None:
    """Sets BLAS's threads, whichever thread set them last.

    threadpoolctl (3.8; 3.6 did not) lets none but the thread that set a limit lift it, as long as that lives,
    and the search that ends last may be another thread's: BLAS would stay on one thread for ever.
    """
    give_up = getattr(library, "clear_controlling_thread", lambda **_: None)
    give_up(force=True)
    library.set_num_threads(threads)
    give_up(force=True)


_one_thread_each = _OneThreadEach()


@contextmanager
def one_blas_thread_each() -> Iterator[None]:
    """BLAS on one thread for each thread that calls it, until the last such context ends."""
    _one_thread_each.enter()
    try:
        yield
    finally:
        _one_thread_each.leave()
