"""Means and scatter matrices of rows, in float64 and in blocks, that can be subtracted from each other."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Rows that are held in float64 at a time.
BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of rows about a shift. A fold's training rows: the total minus its part.

    Attributes:
        weight: Sum of the rows' weights; their number where they have none.
        shift: (D,) what was subtracted from every row, near their mean so that no digits cancel.
        sums: (D,) weighted sum of the shifted rows.
        gram: (dim, D) weighted sum of the outer products of their first dim columns and all.
    """

    weight: float
    shift: Floats
    sums: Floats
    gram: Floats

    def __add__(self, other: Moments) -> Moments:
        """Of the rows of both, which have the same shift."""
        return Moments(self.weight + other.weight, self.shift, self.sums + other.sums, self.gram + other.gram)

    def __sub__(self, part: Moments) -> Moments:
        """Of the rows that are not in ``part``."""
        return Moments(self.weight - part.weight, self.shift, self.sums - part.sums, self.gram - part.gram)

    @property
    def mean(self) -> Floats:
        """(D,) weighted mean of the rows."""
        mean: Floats = self.shift + self.sums / max(self.weight, np.finfo(np.float64).tiny)
        return mean

    def covariance(self) -> Floats:
        """(dim, D) weighted covariances, divided by the weight; zeros where there are no rows."""
        if self.weight <= 0:
            return np.zeros_like(self.gram)
        offset = self.sums / self.weight
        covariance: Floats = self.gram / self.weight - np.outer(offset[: len(self.gram)], offset)
        return covariance


def moments(
    rows: npt.NDArray[np.float32],
    shift: Floats,
    weights: Floats | None = None,
    targets: Floats | None = None,
) -> Moments:
    """The moments of (N, dim) ``rows`` about ``shift``; N may be 0.

    Args:
        rows: (N, dim) float32.
        shift: (D,)
        weights: (N,) of each row; None for 1.
        targets: (N, M) more columns, after those of the rows: D is then dim + M.
    """
    dim = rows.shape[1]
    sums, gram = np.zeros(len(shift)), np.zeros((dim, len(shift)))
    for start in range(0, len(rows), BLOCK):
        here = slice(start, start + BLOCK)
        block = (rows[here] if targets is None else np.hstack([rows[here], targets[here]])) - shift
        if weights is None:
            sums += block.sum(axis=0)
        else:
            sums += weights[here] @ block
            block *= np.sqrt(weights[here])[:, None]
        # Apart: the product of a matrix and its own transpose takes half as long.
        own = block[:, :dim]
        gram[:, :dim] += own.T @ own
        if targets is not None:
            gram[:, dim:] += own.T @ block[:, dim:]
    return Moments(float(len(rows)) if weights is None else float(weights.sum()), shift, sums, gram)


def moments_by_fold(
    rows: npt.NDArray[np.float32],
    assigned: npt.NDArray[np.int64],
    folds: int,
    weights: Floats | None = None,
    targets: Floats | None = None,
    executor: Executor | None = None,
) -> tuple[Moments, Sequence[Moments]]:
    """The moments of all rows, and of each fold's own rows; one pass.

    Args:
        rows: (N, dim) float32.
        assigned: (N,) the fold of each row, 0 to ``folds`` - 1; -1 for rows that are in none.
        folds: How many.
        weights: As for ``moments``.
        targets: As for ``moments``.
        executor: Takes a fold a thread; None for one after the other.
    """
    shift = rows.mean(axis=0, dtype=np.float64)
    if targets is not None:
        shift = np.concatenate([shift, targets.mean(axis=0)])

    def of(fold: int) -> Moments:
        chosen = assigned == fold
        own = None if weights is None else weights[chosen]
        return moments(rows[chosen], shift, own, None if targets is None else targets[chosen])

    rest, *parts = (executor.map if executor else map)(of, range(-1, folds))
    return sum(parts, start=rest), parts
