"""What searches of every FAISS structure share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import IndexDamaged
from trunkline_service.index.exact import ranked, rescored
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


def answered(
    propose: Callable[[NDArray[np.float32]], NDArray[np.int64]],
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    metric: str,
    threads: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best k of what is proposed, by exact scores.

    Queries are shared out among threads of ours, with FAISS on one in each. Threads of OpenMP wait for one
    another by spinning: beside something else that ran, they took five times as long.

    Args:
        propose: Gives positions (q, n) for some of the queries, -1 for none; called in several threads.
        queries: float32 (Q, dim), prepared.
        vectors: float32 (N, dim), prepared.
        k: At least 1.
        metric: Of the vectors.
        threads: The most to use.

    Returns:
        See `Approximate.search`.
    """
    faiss = library()

    queries = np.ascontiguousarray(queries, np.float32)

    def run(start: int, end: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        # OpenMP keeps the number for each thread.
        faiss.omp_set_num_threads(1)
        part = queries[start:end]
        positions = propose(part)
        return ranked(rescored(part, vectors, positions, metric), positions, k)

    parts = _workers(threads).shared_out(len(queries), _WORTH_A_THREAD, run)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


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
