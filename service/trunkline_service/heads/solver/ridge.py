"""Ridge regression: every penalty of a path, and what each predicts for rows that it did not see.

All penalties share one eigendecomposition, of X'X where there are more rows than features, else of XX'.
Leave-one-out is exact and in closed form (Rifkin & Lippert 2007, "Notes on Regularized Least Squares"):
the error of a row left out is its error divided by 1 - its leverage. In float64 throughout.

The minimum is that of ``sum_i w_i (y_i - b - x_i' c)^2 + alpha |c|^2``: the intercept b is free.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.solver.moments import moments_by_fold
from trunkline_service.heads.solver.ridge_spectrum import (
    Affine,
    Dual,
    Floats,
    Positions,
    Rows,
    Spectrum,
    dual,
    primal,
)

Used = TypeVar("Used")

# Numbers that a block of rows may take, over all penalties and outputs.
_BLOCK = 1 << 22
# Coefficients of several penalties that are held at a time.
_COEFFICIENTS = 1 << 25
# Rows of a block at most, so that every thread has blocks of its own.
_ROWS = 2048
# Parts in which leave-one-out sums up its rows.
_PARTS = 4
# Numbers of squared rotated rows that are kept from one call to the next: half a gigabyte.
_KEPT = 1 << 26


class Path(ABC):
    """Solutions for any penalties, and what they predict for rows held out.

    Attributes:
        spectrum: Of all rows.
        rows: (N, D) float32, all of them.
        scale: Mean of the eigenvalues that are not 0: penalties far below change nothing, those far
            above leave nothing.
    """

    def __init__(
        self,
        spectrum: Spectrum,
        rows: Rows,
        targets: Floats,
        weights: Floats | None,
        executor: Executor | None,
    ) -> None:
        self.spectrum = spectrum
        positive = spectrum.values[spectrum.values > 0]
        self.scale = float(positive.mean()) if len(positive) else 1.0
        self.rows, self._targets = rows, targets
        self._weights = np.ones(len(rows)) if weights is None else weights
        self._executor = executor

    def errors(self, alphas: Floats, among: npt.NDArray[np.bool_] | None = None) -> Floats:
        """(A, M) weighted mean squared errors over rows held out.

        Args:
            alphas: (A,) penalties.
            among: (N,) rows to look at; None for all.
        """
        # The coefficients of all penalties are held at once: in parts, where there are many outputs.
        parts = max(1, len(alphas) * self._targets.shape[1] * self.rows.shape[1] // _COEFFICIENTS)
        pieces = np.array_split(alphas, min(parts, len(alphas)))
        return np.concatenate([self._errors(piece, among) for piece in pieces])

    def _errors(self, alphas: Floats, among: npt.NDArray[np.bool_] | None) -> Floats:
        def of(where: Positions, predicted: Floats) -> tuple[Floats, float]:
            squared = (predicted - self._targets[where][:, None, :]) ** 2
            weights = self._weights[where]
            return np.tensordot(weights, squared, axes=1), float(weights.sum())

        total, weight = np.zeros((len(alphas), self._targets.shape[1])), 0.0
        for errors, own in self._held_out(alphas, of, among):
            total += errors
            weight += own
        return total / weight

    def predictions(self, alphas: Floats) -> Floats:
        """(N, M) predictions for rows held out, for a penalty of each output; NaN for rows never held out."""
        distinct, position = np.unique(alphas, return_inverse=True)
        outputs = np.arange(len(alphas))

        def of(where: Positions, predicted: Floats) -> tuple[Positions, Floats]:
            return where, predicted[:, position, outputs]

        result = np.full(self._targets.shape, np.nan)
        for where, predicted in self._held_out(distinct, of):
            result[where] = predicted
        return result

    @abstractmethod
    def _held_out(
        self,
        alphas: Floats,
        use: Callable[[Positions, Floats], Used],
        among: npt.NDArray[np.bool_] | None = None,
    ) -> Iterator[Used]:
        """What ``use`` makes of positions (n,) of some rows and what was predicted for them, (n, A, M)."""


class FoldPath(Path):
    """Held out fold by fold: for rows with duplicates, which must leave together."""

    def __init__(
        self,
        rows: Rows,
        targets: Floats,
        assigned: npt.NDArray[np.int64],
        *,
        weights: Floats | None = None,
        transform: Affine = "none",
        executor: Executor | None = None,
    ) -> None:
        """Decomposes the training rows of each fold, and all rows.

        Args:
            rows: (N, D) float32, finite.
            targets: (N, M) float64.
            assigned: (N,) the fold of each row, -1 for rows that are never held out.
            weights: (N,) positive; None for 1.
            transform: What rows go through, fitted on the training rows of each fold.
            executor: For folds and blocks of rows side by side; None for one after the other.
        """
        self._assigned = assigned
        folds = int(assigned.max(initial=-1)) + 1
        dim = rows.shape[1]
        if len(rows) > dim:
            total, parts = moments_by_fold(rows, assigned, folds, weights, targets, executor)

            def of(fold: int) -> Spectrum:
                return primal(total if fold < 0 else total - parts[fold], dim, transform)[0]
        else:

            def of(fold: int) -> Spectrum:
                chosen = np.ones(len(rows), np.bool_) if fold < 0 else assigned != fold
                own = None if weights is None else weights[chosen]
                return dual(rows[chosen], targets[chosen], own, transform).spectrum

        whole, *self._folds = (executor.map if executor else map)(of, range(-1, folds))
        super().__init__(whole, rows, targets, weights, executor)

    def _held_out(
        self,
        alphas: Floats,
        use: Callable[[Positions, Floats], Used],
        among: npt.NDArray[np.bool_] | None = None,
    ) -> Iterator[Used]:
        for fold, spectrum in enumerate(self._folds):
            coefficients = spectrum.weights(alphas)

            def of(where: Positions, known: Spectrum = spectrum, weights: Floats = coefficients) -> Used:
                moved = self.rows[where] - known.centre
                return use(where, np.tensordot(moved, weights, axes=1) + known.level)

            mine = np.flatnonzero((self._assigned == fold) & (True if among is None else among))
            yield from _mapped(self._executor, of, _blocks(mine, coefficients[0].size))


class LeaveOneOut(Path):
    """Every row held out alone, in closed form."""

    def __init__(
        self,
        rows: Rows,
        targets: Floats,
        *,
        weights: Floats | None = None,
        transform: Affine = "none",
        executor: Executor | None = None,
    ) -> None:
        """Decomposes the rows.

        Args:
            rows: (N, D) float32, finite; N at least 2.
            targets: (N, M) float64.
            weights: (N,) positive; None for 1.
            transform: What rows go through first, fitted on all of them.
            executor: For blocks of rows side by side; None for one after the other.
        """
        self._dual: Dual | None = None
        if len(rows) > rows.shape[1]:
            # Parts only so that several threads have one each.
            parts = np.arange(len(rows)) * _PARTS // len(rows)
            known, _ = moments_by_fold(rows, parts, _PARTS, weights, targets, executor)
            spectrum, self._directions = primal(known, rows.shape[1], transform)
        else:
            self._dual = dual(rows, targets, weights, transform)
            spectrum = self._dual.spectrum
        super().__init__(spectrum, rows, targets, weights, executor)
        self._squared: dict[tuple[int, int, int], Floats] = {}

    def _held_out(
        self,
        alphas: Floats,
        use: Callable[[Positions, Floats], Used],
        among: npt.NDArray[np.bool_] | None = None,
    ) -> Iterator[Used]:
        some = np.arange(len(self.rows)) if among is None else np.flatnonzero(among)
        known = self._dual
        if known is not None:
            for where in _blocks(some, len(alphas) * self._targets.shape[1]):
                yield use(where, self._targets[where][:, None, :] - known.errors(where, alphas))
            return
        coefficients = self.spectrum.weights(alphas)
        shrunk = 1.0 / (self.spectrum.values[:, None] + alphas)
        shares = self._weights / self._weights.sum()

        def of(where: Positions) -> Used:
            moved = self.rows[where] - self.spectrum.centre
            left = 1.0 - shares[where, None] - self._turned(where, moved) @ shrunk
            targets = self._targets[where]
            error = (targets - self.spectrum.level)[:, None, :] - np.tensordot(moved, coefficients, axes=1)
            error /= np.maximum(left, np.finfo(np.float64).eps)[:, :, None]
            return use(where, targets[:, None, :] - error)

        yield from _mapped(self._executor, of, _blocks(some, max(coefficients[0].size, len(coefficients))))

    def _turned(self, where: Positions, moved: Floats) -> Floats:
        """(n, r) squares of the rows along the eigenvectors, times their weights; kept where they fit."""
        key = int(where[0]), len(where), int(where[-1])
        known = self._squared.get(key)
        if known is not None:
            return known
        squared = (moved @ self._directions) ** 2 * self._weights[where, None]
        # Only of rows that follow each other, which the key tells apart.
        if len(self.rows) * squared.shape[1] <= _KEPT and key[2] - key[0] + 1 == key[1]:
            self._squared[key] = squared
        return squared


def _mapped(
    executor: Executor | None, function: Callable[[Positions], Used], blocks: Iterator[Positions]
) -> Iterator[Used]:
    return (executor.map if executor else map)(function, blocks)


def _blocks(positions: Positions, size: int) -> Iterator[Positions]:
    """``positions`` in pieces of so many rows that ``size`` numbers for each fit a block."""
    step = min(max(1, _BLOCK // max(size, 1)), _ROWS)
    for start in range(0, len(positions), step):
        yield positions[start : start + step]
