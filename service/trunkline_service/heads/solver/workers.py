"""Threads for the arithmetic of a fit, each with BLAS on one thread of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from trunkline_service.index.workers import one_blas_thread_each


@contextmanager
def workers() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """An executor with a thread for each core that this process may use, and their number."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    with one_blas_thread_each(), ThreadPoolExecutor(count, thread_name_prefix="fit") as executor:
        yield executor, count
