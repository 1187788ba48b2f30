"""95% intervals by the bootstrap (Efron 1979): the figures of rows drawn again, with replacement. Pure.

At most 2,000 resamples; fewer, down to 200, where rows or classes are many: there the figures hardly
vary, and the quantiles of fewer resamples say the same. Near duplicates make every interval too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

_SEED = 20
_RESAMPLES = (200, 2000)
# Draws of one whole bootstrap, and numbers held at a time.
_DRAWS = 8_000_000
_HELD = 2_000_000
_SHARES = (0.025, 0.975)
# Values of a Poisson(1) variable at 65,536 equal chances: looked up, they come ten times faster than drawn.
_CHANCES = np.cumsum([1 / math.factorial(k) for k in range(9)]) / math.e
_POISSON = np.searchsorted(_CHANCES, (np.arange(65536) + 0.5) / 65536).astype(np.uint8)


def resamples_for(cost: int) -> int:
    """How many resamples, at ``cost`` drawn numbers each."""
    fewest, most = _RESAMPLES
    return int(np.clip(_DRAWS // max(1, cost), fewest, most))


def interval(values: NDArray[np.float64]) -> Interval:
    """The middle 95% of resampled figures (B,); those that could not be computed are NaN and left out."""
    low, high = np.nanquantile(values, _SHARES)
    return float(low), float(high)


def row_weights(rows: int, resamples: int, seed: int = _SEED) -> Iterator[NDArray[np.float32]]:
    """How often each row was drawn: blocks of (b, N), ``resamples`` in all.

    Each count is Poisson(1) on its own (the Poisson bootstrap, Chamandy et al. 2012): rows need not be
    drawn one by one, and ratios do not mind that a resample's size varies.
    """
    generator = np.random.default_rng(seed)
    step = max(1, _HELD // max(1, rows))
    for start in range(0, resamples, step):
        size = (min(step, resamples - start), rows)
        yield _POISSON[generator.integers(0, 65536, size, dtype=np.uint16)].astype(np.float32)


def class_intervals(
    codes: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: int,
    weights: NDArray[np.float64] | None = None,
) -> Mapping[str, Interval]:
    """Intervals of ``accuracy``, ``balanced_accuracy`` and ``macro_f1``.

    Args:
        codes: (N,) true classes.
        predicted: (N,) predicted classes.
        classes: K.
        weights: (N,) positive, of the rows; None for equal ones.
    """
    if weights is None:
        draws = _draw_counts(codes, predicted, classes)
    else:
        draws = _draw_rows(codes, predicted, classes, weights)
    seen = (np.bincount(codes, minlength=classes) + np.bincount(predicted, minlength=classes)) > 0
    unseen = classes - int(np.count_nonzero(seen))
    found: dict[str, list[NDArray[np.float64]]] = {"accuracy": [], "balanced_accuracy": [], "macro_f1": []}
    for hits, support, named in draws:
        found["accuracy"].append(hits.sum(axis=1) / support.sum(axis=1))
        recall = np.divide(hits, support, out=np.zeros(hits.shape), where=support > 0)
        found["balanced_accuracy"].append(recall.sum(axis=1) / (support > 0).sum(axis=1))
        both = support + named
        f1 = np.divide(2 * hits, both, out=np.zeros(hits.shape), where=both > 0)
        # A class that this resample missed says nothing; one that no row has counts 0, as in the figure.
        found["macro_f1"].append(f1.sum(axis=1) / ((both > 0).sum(axis=1) + unseen))
    return {name: interval(np.concatenate(parts)) for name, parts in found.items()}


_Counts = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def _draw_counts(codes: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Iterator[_Counts]:
    """Resampled (hits, support, named), each (b, K): of rows of weight 1, without drawing those that are right.

    Right rows of one class are alike, so their number is drawn at once; only mistakes, which differ by what
    they were taken for, are drawn one by one.
    """
    generator = np.random.default_rng(_SEED)
    wrong = codes != predicted
    taken, given = codes[wrong], predicted[wrong]
    chances = np.append(np.bincount(codes[~wrong], minlength=classes), len(taken)) / len(codes)
    resamples = resamples_for(max(classes, len(taken)))
    step = max(1, _HELD // max(classes, len(taken)))
    for start in range(0, resamples, step):
        drawn = generator.multinomial(len(codes), chances, size=min(step, resamples - start))
        hits, mistakes = drawn[:, :-1], drawn[:, -1]
        rows = np.repeat(np.arange(len(hits)) * classes, mistakes)
        picked = generator.integers(0, max(1, len(taken)), len(rows))
        missed = np.bincount(rows + taken[picked], minlength=hits.size).reshape(hits.shape)
        mistaken = np.bincount(rows + given[picked], minlength=hits.size).reshape(hits.shape)
        yield hits, hits + missed, hits + mistaken


def _draw_rows(
    codes: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: int,
    weights: NDArray[np.float64],
) -> Iterator[_Counts]:
    """The same for rows of several weights, which are drawn one by one."""
    generator = np.random.default_rng(_SEED)
    n = len(codes)
    right = weights * (codes == predicted)
    resamples = resamples_for(max(classes, 4 * n))
    step = max(1, _HELD // max(classes, n))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        picked = generator.integers(0, n, count * n)
        rows = np.repeat(np.arange(count) * classes, n)
        yield (
            _totals(rows + codes[picked], right[picked], (count, classes)),
            _totals(rows + codes[picked], weights[picked], (count, classes)),
            _totals(rows + predicted[picked], weights[picked], (count, classes)),
        )


def _totals(
    cells: NDArray[np.int64], values: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    sums = np.bincount(cells, weights=values, minlength=shape[0] * shape[1])
    return sums.reshape(shape).astype(np.float64, copy=False)
