"""Neighbours by distance where single precision can't rank them: in double precision.

``q.x - |x|^2 / 2`` ranks as the distance does, and cancels: of vectors of length 40 that lie within 0.05 of
each other - frames of one video, say - its error was larger than their differences, and of the true ten a
search kept one. So whether an answer could be another is known by a bound of the error.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Of float64 values: some tens of megabytes.
_BLOCK_VALUES = 4_000_000
# An error grows as the root of the number of terms; what was seen is a tenth of this.
_SAFETY = 4.0


def in_doubt(
    queries: NDArray[np.float32],
    half_squares: NDArray[np.float32],
    kept: NDArray[np.float32],
    kth: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Which queries may lack a neighbour, int64.

    Args:
        queries: float32 (Q, dim).
        half_squares: float32 (N,), see `exact.half_squares_of`.
        kept: float32 (Q,), ``q.x - |x|^2 / 2`` of the worst row that was compared exactly; ``-inf`` where
            all rows were.
        kth: float32 (Q,), the score of the k-th of them: minus its exact distance.
    """
    squares = np.einsum("ij,ij->i", queries, queries, dtype=np.float64)
    longest = float(half_squares.max())
    relative = _SAFETY * math.sqrt(queries.shape[1]) * float(np.finfo(np.float32).eps)
    error = relative * (np.sqrt(squares * 2 * longest) + longest)
    # Nothing is nearer than a distance of zero.
    doubtful = (kth < 0) & ((squares - kth.astype(np.float64) ** 2) / 2 < kept + error)
    return np.flatnonzero(doubtful & np.isfinite(kept)).astype(np.int64)


def nearest_in_double(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.bool_] | None,
) -> NDArray[np.int64]:
    """Positions of the k rows at the least distance, int64 (Q, k), in no order.

    Args:
        queries: float32 (Q, dim).
        vectors: float32 (N, dim).
        k: At most as many as are allowed.
        allowed: bool (N,); None for all.
    """
    wide = queries.astype(np.float64)
    own = np.einsum("ij,ij->i", wide, wide)
    nearest = np.full((len(queries), 0), np.inf), np.full((len(queries), 0), -1, np.int64)
    rows = max(1, _BLOCK_VALUES // (len(queries) + vectors.shape[1]))
    chosen = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    for start in range(0, len(chosen), rows):
        at = chosen[start : start + rows]
        block = vectors[at].astype(np.float64)
        squares = own[:, None] + np.einsum("ij,ij->i", block, block) - 2 * (wide @ block.T)
        both = np.concatenate([nearest[0], squares], axis=1)
        names = np.concatenate([nearest[1], np.broadcast_to(at, squares.shape)], axis=1)
        best = np.argpartition(both, min(k, both.shape[1]) - 1, axis=1)[:, :k]
        nearest = np.take_along_axis(both, best, 1), np.take_along_axis(names, best, 1)
    return nearest[1]
