"""How well scores rank rows: AUROC and average precision, ties counted right. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Ranking sorts every class's column: beyond this many (row, class) pairs that takes longer than it tells.
_MOST_CELLS = 1 << 28
_BLOCK = 32


class Ranking(NamedTuple):
    """Of scores, by which positive rows should come first.

    Attributes:
        auroc: The chance that a positive row scores above a negative one, ties counting half.
        average_precision: Mean precision at the positives' scores, without interpolation.
    """

    auroc: float
    average_precision: float


def rank(
    positive: NDArray[np.bool_], scores: NDArray[Any], weights: NDArray[np.float64] | None = None
) -> Ranking | None:
    """AUROC and average precision, as scikit-learn gives them; None unless both kinds of rows are there.

    Args:
        positive: (N,) which rows should score high.
        scores: (N,) finite; higher is more positive.
        weights: (N,) positive, of the rows; None for equal ones.
    """
    count, n = int(np.count_nonzero(positive)), len(positive)
    if count in (0, n):
        return None
    if weights is not None:
        return _weighted(positive, scores, weights)
    # Sorting is several times faster than argsort, and only positives have to be looked up.
    ordered, hits = np.sort(scores), np.sort(scores[positive])
    below, upto = np.searchsorted(ordered, hits), np.searchsorted(ordered, hits, "right")
    hits_below, hits_upto = np.searchsorted(hits, hits), np.searchsorted(hits, hits, "right")
    passed = (below - hits_below) + (upto - hits_upto)
    return Ranking(
        auroc=float(passed.sum()) / 2 / (count * (n - count)),
        average_precision=float(((count - hits_below) / (n - below)).mean()),
    )


def _weighted(positive: NDArray[np.bool_], scores: NDArray[Any], weights: NDArray[np.float64]) -> Ranking:
    order = np.argsort(scores)
    ordered = scores[order]
    ones = weights[order] * positive[order]
    every = np.concatenate([[0.0], np.cumsum(weights[order])])
    good = np.concatenate([[0.0], np.cumsum(ones)])
    bad = every - good
    mine = positive[order]
    below = np.searchsorted(ordered, ordered[mine])
    upto = np.searchsorted(ordered, ordered[mine], "right")
    own = ones[mine]
    precision = (good[-1] - good[below]) / (every[-1] - every[below])
    return Ranking(
        auroc=float((own * (bad[below] + bad[upto])).sum() / 2 / (good[-1] * bad[-1])),
        average_precision=float((own * precision).sum() / good[-1]),
    )


def rank_classes(
    codes: NDArray[np.int64], probabilities: NDArray[Any], weights: NDArray[np.float64] | None = None
) -> list[Ranking | None]:
    """The ranking of each class against all others by its own probability, for K classes.

    None for a class that no row or every row has; for every class beyond 2^28 probabilities.

    Args:
        codes: (N,) true classes.
        probabilities: (N, K).
        weights: (N,), or None.
    """
    if probabilities.size > _MOST_CELLS:
        return [None] * probabilities.shape[1]
    # A column of a C-ordered matrix is scattered over memory; a block of them is copied at once.
    return [
        rank(codes == first + k, column, weights)
        for first in range(0, probabilities.shape[1], _BLOCK)
        for k, column in enumerate(np.ascontiguousarray(probabilities[:, first : first + _BLOCK].T))
    ]


def rank_labels(
    indicator: NDArray[np.bool_], probabilities: NDArray[Any], weights: NDArray[np.float64] | None = None
) -> list[Ranking | None]:
    """The ranking of each label of a multi-label task; None as in ``rank_classes``.

    Args:
        indicator: (N, K) which rows have which label.
        probabilities: (N, K).
        weights: (N,), or None.
    """
    if probabilities.size > _MOST_CELLS:
        return [None] * probabilities.shape[1]
    return [
        rank(indicator[:, k], np.ascontiguousarray(probabilities[:, k]), weights)
        for k in range(probabilities.shape[1])
    ]
