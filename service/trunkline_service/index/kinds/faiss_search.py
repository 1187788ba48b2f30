"""What searches of every FAISS structure share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import IndexDamaged
from trunkline_service.index.workers import Workers

# Queries that are worth a thread.
_WORTH_A_THREAD = 4


def library() -> Any:
    """FAISS, whose type stubs lack much of what is used here."""
    import faiss

    return faiss


def faiss_metric(metric: str) -> int:
    """FAISS's number of a metric; cosine is the inner product of vectors of length 1."""
    faiss = library()

    return int(faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT)


def selector(allowed: NDArray[np.bool_] | None) -> Any:
    """FAISS's form of a mask (N,); None for None."""
    if allowed is None:
        return None
    faiss = library()

    return faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


Answers = tuple[NDArray[np.float32], NDArray[np.int64]]


def shared_out(
    search: Callable[[NDArray[np.float32]], Answers], queries: NDArray[np.float32], threads: int
) -> Answers:
    """The answers to all queries.

    Queries are shared out among threads of ours, with FAISS on one in each. Threads of OpenMP wait for one
    another by spinning: beside something else that ran, they took five times as long.

    Args:
        search: Gives scores and positions of some of the queries; called in several threads.
        queries: float32 (Q, dim), prepared.
        threads: The most to use.

    Returns:
        See `Approximate.search`.
    """
    queries = np.ascontiguousarray(queries, np.float32)

    def run(start: int, end: int) -> Answers:
        with openmp_threads(1):
            return search(queries[start:end])

    parts = _workers(threads).shared_out(len(queries), _WORTH_A_THREAD, run)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


@contextmanager
def openmp_threads(count: int) -> Iterator[None]:
    """FAISS on so many threads, for who calls it in this thread: OpenMP keeps the number for each."""
    faiss = library()

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def check_fits(index: Any, vectors: NDArray[np.float32], metric: str) -> None:
    """Raises `IndexDamaged` where an index can't be of these vectors."""
    held = (int(index.ntotal), int(index.d), int(index.metric_type))
    wanted = (*vectors.shape, faiss_metric(metric))
    if held != wanted:
        raise IndexDamaged(
            f"the index holds {held[0]} vectors of {held[1]} floats (FAISS metric {held[2]}) where "
            f"{wanted[0]} of {wanted[1]} (metric {wanted[2]}) were expected; build it again"
        )


@cache
def _workers(threads: int) -> Workers:
    # Structures come and go with versions of a collection, and have no end that anybody tells them.
    return Workers(max(1, threads))
