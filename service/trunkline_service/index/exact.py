"""Exact nearest neighbours: every vector is compared, by matrix products over blocks of rows.

FAISS's flat index does the same. Here, on two cores, NumPy's products ran at ten times the speed of the
BLAS in FAISS's wheel, and a block's scores are compared with the worst score that is kept so far before
anything else looks at them, so that selecting takes a small part of the time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index.doubting import in_doubt, nearest_in_double, too_faint
from trunkline_service.index.metric import pair_scores
from trunkline_service.index.workers import Workers

Scores = NDArray[np.floating[Any]]
Positions = NDArray[np.int64]

# A block's scores fit the second-level cache of a core, its vectors the third.
_BLOCK_SCORES = 1 << 20
_FEWEST_ROWS, _MOST_ROWS = 4096, 65_536
# Above this share, the rows that may be found are not gathered: all are compared, and the others dropped.
_DENSE = 0.4
_RESCORED = 4_000_000
_LEAST = np.finfo(np.float32).min
# Multiply-adds: some hundreds of microseconds.
_WORTH_A_THREAD = 4_000_000
_UNROLLED = 8
# Products and squares cancel where vectors are long and near: so many more are compared anew, exactly.
_SPARE = 16


def nearest(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    metric: str,
    allowed: NDArray[np.bool_] | None = None,
    half_squares: NDArray[np.float32] | None = None,
    workers: Workers | None = None,
) -> tuple[Scores, Positions]:
    """The k best positions of each query, best first; of equal scores found the lower position first.

    Args:
        queries: float32 (Q, dim), prepared.
        vectors: float32 (N, dim), prepared.
        k: At least 1.
        metric: ``cosine``, ``dot`` or ``euclidean``.
        allowed: bool (N,): the positions that may be found; None for all.
        half_squares: float32 (N,), see `half_squares_of`; needed for ``euclidean``.
        workers: Threads to share the rows out among; None for the caller's alone.

    Returns:
        Scores (Q, k) and int64 (Q, k). Where fewer than k rows may be found, the rest is ``-inf`` and
        ``-1``. A pair's score is the same whatever else is searched beside it. Scores are float32; float64
        where products are more or less than float32 holds.
    """
    wanted = k + _SPARE if metric == "euclidean" else k
    if not len(queries) or not len(vectors):
        return ranked(*_nothing(len(queries)), k)
    chosen = _chosen(allowed)
    lost: list[bool] = []

    def scan(start: int, end: int) -> tuple[Scores, Positions]:
        best = _Best(len(queries), min(wanted, end - start))
        # What is more than float32 holds is looked for again.
        with np.errstate(over="ignore", invalid="ignore"):
            if chosen is None:
                _scan(_Columns(queries), vectors, best, (start, end), allowed, half_squares)
            else:
                _scan_some(_Columns(queries), vectors, best, chosen[start:end], half_squares)
        lost.append(best.lost)
        return best.found()

    count = len(vectors) if chosen is None else len(chosen)
    if not count:
        return ranked(*_nothing(len(queries)), k)
    least = max(1, _WORTH_A_THREAD // (len(queries) * vectors.shape[1]))
    parts = (workers or Workers(1)).shared_out(count, least, scan)
    kept, positions = merged(parts, wanted)
    if any(lost):
        return _in_double(queries, vectors, k, metric, allowed)
    scores, positions = ranked(rescored(queries, vectors, positions, metric), positions, k)
    if metric == "cosine":
        return scores, positions
    if half_squares is not None:
        doubtful = in_doubt(queries, half_squares, kept[:, -1], scores[:, -1])
    else:
        doubtful = too_faint(queries, vectors, kept[:, 0])
    if len(doubtful):
        anew, names = _in_double(queries[doubtful], vectors, k, metric, allowed)
        scores = scores.astype(anew.dtype, copy=False)
        scores[doubtful], positions[doubtful] = anew, names
    return scores, positions


def _in_double(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    metric: str,
    allowed: NDArray[np.bool_] | None,
) -> tuple[Scores, Positions]:
    """See `nearest`. Distances are of the size of the values, and float32 holds them."""
    scores, positions = nearest_in_double(queries, vectors, k, metric, allowed)
    if metric == "euclidean":
        return ranked(rescored(queries, vectors, positions, metric), positions, k)
    return ranked(scores, positions, k)


def half_squares_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half the squared length of each vector, float32 (N,): q.x minus it ranks as the distance does."""
    halves = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _MOST_ROWS):
        block = vectors[start : start + _MOST_ROWS]
        with np.errstate(over="ignore"):
            np.einsum("ij,ij->i", block, block, out=halves[start : start + _MOST_ROWS])
    return halves / np.float32(2)


def merged(parts: list[tuple[Scores, Positions]], k: int) -> tuple[Scores, Positions]:
    """The k best of several answers to the same queries; positions are told apart by the caller."""
    if not parts:
        raise ValueError("no parts")
    scores = np.concatenate([part[0] for part in parts], axis=1)
    positions = np.concatenate([part[1] for part in parts], axis=1)
    return ranked(scores, positions, k)


def ranked(scores: Scores, positions: Positions, k: int) -> tuple[Scores, Positions]:
    """The k best of (Q, n), best first, filled up with ``-inf`` and ``-1``."""
    order = np.lexsort((positions, -scores), axis=-1)[:, :k]
    scores, positions = np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)
    if (missing := k - scores.shape[1]) > 0:
        scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
        positions = np.pad(positions, ((0, 0), (0, missing)), constant_values=-1)
    return scores, positions


def rescored(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], positions: Positions, metric: str
) -> Scores:
    """Exact scores of positions (Q, n), float32 (Q, n); ``-inf`` for -1."""
    scores = np.full(positions.shape, -np.inf, np.float32)
    width = max(1, min(positions.shape[1], _RESCORED // vectors.shape[1]))
    rows = max(1, _RESCORED // (width * vectors.shape[1]))
    for start in range(0, len(queries), rows):
        for first in range(0, positions.shape[1], width):
            part = slice(start, start + rows), slice(first, first + width)
            # Of -1 the last vector is taken, and its score is not.
            found = pair_scores(queries[part[0]], vectors[positions[part]], metric)
            scores[part] = np.where(positions[part] < 0, -np.inf, found)
    return scores


def _nothing(queries: int) -> tuple[Scores, Positions]:
    return np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)


def _chosen(allowed: NDArray[np.bool_] | None) -> Positions | None:
    """The positions to gather; None where scanning all is cheaper."""
    if allowed is None or np.count_nonzero(allowed) > _DENSE * len(allowed):
        return None
    return np.flatnonzero(allowed)


def _scan(
    columns: _Columns,
    vectors: NDArray[np.float32],
    best: _Best,
    bounds: tuple[int, int],
    allowed: NDArray[np.bool_] | None,
    half_squares: NDArray[np.float32] | None,
) -> None:
    rows = _block_rows(columns.count)
    for start in range(*bounds, rows):
        block = slice(start, min(start + rows, bounds[1]))
        scores = columns.products(vectors[block], min(rows, bounds[1] - bounds[0]))
        if half_squares is not None:
            scores -= half_squares[block, None]
        best.check(scores)
        if allowed is not None:
            scores[~allowed[block]] = -np.inf
        best.add(scores, start)


def _scan_some(
    columns: _Columns,
    vectors: NDArray[np.float32],
    best: _Best,
    chosen: Positions,
    half_squares: NDArray[np.float32] | None,
) -> None:
    rows = _block_rows(columns.count)
    for start in range(0, len(chosen), rows):
        block = chosen[start : start + rows]
        scores = columns.products(vectors[block], min(rows, len(chosen)))
        if half_squares is not None:
            scores -= half_squares[block, None]
        best.check(scores)
        best.add(scores, start, chosen)


class _Columns:
    """Queries as columns: rows times columns ran 1.3 to 2 times as fast as columns times rows.

    From 3 to 7 of them are filled up to 8, with which the same product is faster than with 4.
    """

    def __init__(self, queries: NDArray[np.float32]) -> None:
        self.count = len(queries)
        width = _UNROLLED if 2 < self.count < _UNROLLED else self.count
        self._columns = np.zeros((queries.shape[1], width), np.float32)
        self._columns[:, : self.count] = queries.T
        self._out = np.empty(0, np.float32)

    def products(self, block: NDArray[np.float32], most_rows: int) -> Scores:
        """float32 (n, Q), valid until the next call."""
        width = self._columns.shape[1]
        if not len(self._out):
            self._out = np.empty(most_rows * width, np.float32)
        out = self._out[: len(block) * width].reshape(len(block), width)
        np.matmul(block, self._columns, out=out)
        return out[:, : self.count]


def _block_rows(queries: int) -> int:
    return min(_MOST_ROWS, max(_FEWEST_ROWS, _BLOCK_SCORES // queries))


@dataclass
class _Best:
    """The k best of each query so far.

    What beats a query's worst is gathered, and sorted in once there is as much of it as is kept: of rows in
    no order, only about ``k ln(N / block)`` of N do.
    """

    queries: int
    k: int
    _scores: Scores = field(init=False)
    _positions: Positions = field(init=False)
    _found: list[tuple[Positions, Scores, Positions]] = field(default_factory=list)
    _pending: int = 0
    lost: bool = False

    def __post_init__(self) -> None:
        self._scores = np.full((self.queries, self.k), -np.inf, np.float32)
        self._positions = np.full((self.queries, self.k), -1, np.int64)

    def check(self, scores: Scores) -> None:
        """Notes where a score is NaN or infinite: `lost` is true then."""
        # Faster than to look at each, and a sum that overflows costs time only.
        self.lost = self.lost or not np.isfinite(scores.sum())

    def add(self, scores: Scores, start: int, names: Positions | None = None) -> None:
        """Takes (n, Q) scores of the positions from ``start``, or of ``names[start:]``."""
        if np.isneginf(self._scores[:, -1]).any() and len(scores) > self.k:
            # All that score as the k-th does, of which the lower positions are kept.
            kth = np.partition(scores.T, len(scores) - self.k, axis=1)[:, -self.k]
            better = scores >= np.maximum(kth, _LEAST)
        else:
            better = scores > self._scores[:, -1]
        columns, rows = np.divmod(np.flatnonzero(better), self.queries)
        if not len(rows):
            return
        values = scores[columns, rows]
        positions = columns + start if names is None else names[columns + start]
        self._found.append((rows, values, positions))
        self._pending += len(rows)
        if self._pending >= self.queries * self.k:
            self._sort_in()

    def found(self) -> tuple[Scores, Positions]:
        """(Q, k), best first; ``-inf`` and -1 where there are fewer."""
        self._sort_in()
        return self._scores, self._positions

    def _sort_in(self) -> None:
        if not self._found:
            return
        kept = np.repeat(np.arange(self.queries), self.k)
        rows = np.concatenate([kept, *(part[0] for part in self._found)])
        values = np.concatenate([self._scores.ravel(), *(part[1] for part in self._found)])
        names = np.concatenate([self._positions.ravel(), *(part[2] for part in self._found)])
        order = np.lexsort((names, -values, rows))
        starts = np.searchsorted(rows[order], np.arange(self.queries))
        first = order[starts[:, None] + np.arange(self.k)]
        self._scores = values[first]
        self._positions = np.where(np.isneginf(self._scores), -1, names[first])
        self._found, self._pending = [], 0
