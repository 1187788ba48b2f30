"""Recall of a structure, measured against exact search."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled
from trunkline_service.index import exact
from trunkline_service.index.card import Recall
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.workers import Workers

BATCH = 64
# Of the normal distribution: 95% lie within so many deviations.
_Z = 1.959964
# Scores of one pair may differ in their last bits where two ways computed them.
_TOLERANCE = 2e-6


@dataclass(frozen=True, eq=False)
class Truth:
    """The exact answers to queries.

    Attributes:
        queries: float32 (Q, dim), prepared.
        scores: float32 (Q, k), best first; ``-inf`` where there are fewer rows.
        positions: int64 (Q, k); -1 where there are fewer rows.
        rows: Rows that were compared.
        queries_per_s: Answered exactly in a second, in batches of 64.
    """

    queries: NDArray[np.float32]
    scores: NDArray[np.float32]
    positions: NDArray[np.int64]
    rows: int
    queries_per_s: float

    @property
    def k(self) -> int:
        """Neighbours that each query has."""
        return min(int(self.positions.shape[1]), self.rows)

    def of(self, k: int) -> Truth:
        """The nearest k alone."""
        return replace(self, scores=self.scores[:, :k], positions=self.positions[:, :k])


@dataclass(frozen=True)
class Measured:
    """What an effort gives.

    Attributes:
        recall: Against the truth.
        queries_per_s: Answered in a second, in batches of 64.
        between: The recall of queries halfway between two rows, where that was measured.
    """

    recall: Recall
    queries_per_s: float
    between: float = 0.0


def true_neighbours(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    metric: str,
    *,
    threads: int,
    clock: Callable[[], float],
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Truth:
    """Compares queries with every vector.

    Args:
        queries: float32 (Q, dim), prepared; at least one.
        vectors: float32 (N, dim), prepared; may be memory-mapped.
        k: At least 1.
        metric: Of the vectors.
        threads: The most to use.
        clock: Seconds.
        progress: Told the share that is done.
        cancelled: Asked before each batch.

    Raises:
        Cancelled: It was cancelled.
    """
    vectors = np.asarray(vectors)
    halves = exact.half_squares_of(vectors) if metric == "euclidean" else None
    workers = Workers(threads)

    def search(batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return exact.nearest(batch, vectors, k, metric, None, halves, workers)

    try:
        scores, positions, rate = _in_batches(queries, search, clock, progress, cancelled)
    finally:
        workers.close()
    return Truth(queries, scores, positions, len(vectors), rate)


def measured(
    approximate: Approximate,
    truth: Truth,
    effort: int,
    *,
    threads: int,
    clock: Callable[[], float],
    version: int = 0,
    cancelled: Callable[[], bool] = lambda: False,
) -> Measured:
    """Asks a structure what exact search answered already.

    Args:
        approximate: Over the vectors of the truth.
        truth: The right answers.
        effort: ``efSearch`` or ``nprobe``.
        threads: The most to use.
        clock: Seconds.
        version: The collection's, for the result.
        cancelled: Asked before each batch.

    Raises:
        Cancelled: It was cancelled.
    """
    k = truth.positions.shape[1]

    def search(batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return approximate.search(batch, k, effort, None, threads)

    scores, positions, rate = _in_batches(truth.queries, search, clock, None, cancelled)
    shares = shares_found(scores, positions, truth)
    low = lower_end(shares, truth.k)
    return Measured(Recall(k, float(shares.mean()), low, len(shares), version, truth.rows), rate)


def shares_found(
    scores: NDArray[np.float32], positions: NDArray[np.int64], truth: Truth
) -> NDArray[np.float64]:
    """The share of each query's true neighbours that was found, float64 (Q,).

    A row that is as near as the k-th counts: of rows with one score any is right.
    """
    worst = truth.scores[:, truth.k - 1][:, None]
    near = scores >= worst - _TOLERANCE * np.abs(worst)
    same = (positions[:, :, None] == truth.positions[:, None, :]).any(axis=2)
    right = ((near | same) & (positions >= 0)).sum(axis=1)
    shares: NDArray[np.float64] = np.minimum(right, truth.k) / truth.k
    return shares


def lower_end(shares: NDArray[np.float64], k: int) -> float:
    """The lower end of the 95% interval (Wilson's) of the mean of shares.

    What a query misses it tends to miss together, so it counts as fewer than k trials where shares vary
    more than k independent ones would; never as less than one.

    Args:
        shares: float64 (Q,): of k neighbours each.
        k: Of each query.
    """
    count, mean = len(shares), float(shares.mean())
    trials = float(count * k)
    if count == 1:
        trials = 1.0
    elif (variance := float(shares.var(ddof=1))) > 0:
        trials = min(trials, max(float(count), count * mean * (1 - mean) / variance))
    square = _Z**2 / trials
    spread = _Z * math.sqrt(mean * (1 - mean) / trials + square / (4 * trials))
    return max(0.0, min(mean, (mean + square / 2 - spread) / (1 + square)))


def _in_batches(
    queries: NDArray[np.float32],
    search: Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.int64]]],
    clock: Callable[[], float],
    progress: Callable[[float], None] | None,
    cancelled: Callable[[], bool],
) -> tuple[NDArray[np.float32], NDArray[np.int64], float]:
    answers, seconds = [], []
    for start in range(0, len(queries), BATCH):
        if cancelled():
            raise Cancelled("measuring recall was cancelled")
        if progress is not None:
            progress(start / len(queries))
        batch = queries[start : start + BATCH]
        began = clock()
        answers.append(search(batch))
        seconds.append((clock() - began) / len(batch))
    if progress is not None:
        progress(1.0)
    # The median: the first batch reads what the others find in memory.
    rate = 1 / max(statistics.median(seconds), 1e-9)
    return np.concatenate([one[0] for one in answers]), np.concatenate([one[1] for one in answers]), rate
