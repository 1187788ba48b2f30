"""Neighbours where single precision can't rank them: in double precision.

``q.x - |x|^2 / 2`` ranks as the distance does, and cancels: of vectors of length 40 that lie within 0.05 of
each other - frames of one video, say - its error was larger than their differences, and of the true ten a
search kept one. So whether an answer could be another is known by a bound of the error. Products and squares of
values above 1e19 are more than single precision holds, and of values below 1e-19 they are nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Of float64 values: some tens of megabytes.
_BLOCK_VALUES = 4_000_000
# An error grows as the root of the number of terms; what was seen is a tenth of this.
_SAFETY = 4.0
# The least float32 of full precision; what is smaller may be taken for nothing.
_TINY = float(np.finfo(np.float32).tiny)
# Products are known to some digits where they are larger.
_FAINT = 1e-30
_LOOKED_AT = 1024


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
    error = relative * (np.sqrt(squares * 2 * longest) + longest) + queries.shape[1] * _TINY
    # Nothing is nearer than a distance of zero.
    doubtful = (kth < 0) & ((squares - kth.astype(np.float64) ** 2) / 2 < kept + error)
    return np.flatnonzero(doubtful & np.isfinite(kept)).astype(np.int64)


def too_faint(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], kth: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Which queries' inner products may all be too small for single precision, int64.

    A product near zero alone says nothing: vectors of many zeros are often orthogonal.

    Args:
        queries: float32 (Q, dim).
        vectors: float32 (N, dim).
        kth: float32 (Q,), the k-th best product.
    """
    most = np.abs(queries).max(axis=1, initial=0).astype(np.float64)
    faint = np.flatnonzero((np.abs(kth) < _FAINT) & (most > 0))
    largest = 0.0
    for start in range(0, len(vectors), _LOOKED_AT):
        # Most often none are left after the first look.
        faint = faint[most[faint] * largest < _FAINT]
        if not len(faint):
            break
        largest = max(largest, float(np.abs(vectors[start : start + _LOOKED_AT]).max(initial=0)))
    found: NDArray[np.int64] = faint[(most[faint] * largest < _FAINT) & (largest > 0)]
    return found


def nearest_in_double(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    metric: str,
    allowed: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The scores of the k best rows, float64 (Q, n), and their positions, int64 (Q, n), in no order.

    Args:
        queries: float32 (Q, dim).
        vectors: float32 (N, dim).
        k: At least 1; n is less where fewer are allowed.
        metric: ``dot`` or ``euclidean``.
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
        far = -(wide @ block.T)
        if metric == "euclidean":
            far = own[:, None] + np.einsum("ij,ij->i", block, block) + 2 * far
        both = np.concatenate([nearest[0], far], axis=1)
        names = np.concatenate([nearest[1], np.broadcast_to(at, far.shape)], axis=1)
        best = np.argpartition(both, min(k, both.shape[1]) - 1, axis=1)[:, :k]
        nearest = np.take_along_axis(both, best, 1), np.take_along_axis(names, best, 1)
    if metric == "euclidean":
        return -np.sqrt(np.maximum(nearest[0], 0)), nearest[1]
    return -nearest[0], nearest[1]
