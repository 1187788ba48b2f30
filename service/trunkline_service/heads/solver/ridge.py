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
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.solver.moments import Moments, moments_by_fold

Rows = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
Used = TypeVar("Used")
Affine: TypeAlias = Literal["standardise", "whiten", "none"]

# Numbers that a block of rows may take, over all penalties and outputs.
_BLOCK = 1 << 22
# And rows at most, so that every thread has blocks of its own.
_ROWS = 2048
# Parts in which leave-one-out sums up its rows.
_PARTS = 4
# Numbers of squared rotated rows that are kept from one call to the next: half a gigabyte.
_KEPT = 1 << 26
# Of the largest variance: what whitening leaves out.
_TINY = 1e-6
# Of its mean: the spread below which a feature counts as constant, as for `kinds.linear.Standardiser`.
_CONSTANT = 1e-5


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What the solutions for all penalties have in common.

    Attributes:
        centre: (D,) mean of the rows.
        level: (M,) mean of the targets.
        values: (r,) eigenvalues of the transformed rows' scatter, not negative.
        projected: (r, M) targets along its eigenvectors.
        lift: From (r, C) over eigenvectors to (D, C) over features of raw rows.
    """

    centre: Floats
    level: Floats
    values: Floats
    projected: Floats
    lift: Callable[[Floats], Floats]

    def weights(self, alphas: Floats) -> Floats:
        """(D, A, M) coefficients of raw features for each of (A,) penalties."""
        shrunk = self.projected[:, None, :] / (self.values[:, None] + alphas)[:, :, None]
        return self.lift(shrunk.reshape(len(shrunk), -1)).reshape(-1, *shrunk.shape[1:])

    def linear(self, alphas: Floats) -> tuple[Floats, Floats]:
        """Coefficients (M, D) of raw features and intercepts (M,), for a penalty of each output."""
        coefficients = self.lift(self.projected / (self.values[:, None] + alphas)).T
        return coefficients, self.level - coefficients @ self.centre


class Path(ABC):
    """Solutions for any penalties, and what they predict for rows held out.

    Attributes:
        spectrum: Of all rows.
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
        self._rows, self._targets = rows, targets
        self._weights = np.ones(len(rows)) if weights is None else weights
        self._executor = executor

    def errors(self, alphas: Floats) -> Floats:
        """(A, M) weighted mean squared errors over rows held out, for (A,) penalties."""

        def of(where: Positions, predicted: Floats) -> tuple[Floats, float]:
            squared = (predicted - self._targets[where][:, None, :]) ** 2
            weights = self._weights[where]
            return np.tensordot(weights, squared, axes=1), float(weights.sum())

        total, weight = np.zeros((len(alphas), self._targets.shape[1])), 0.0
        for errors, own in self._held_out(alphas, of):
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
    def _held_out(self, alphas: Floats, use: Callable[[Positions, Floats], Used]) -> Iterator[Used]:
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
                return _primal(total if fold < 0 else total - parts[fold], dim, transform)[0]
        else:

            def of(fold: int) -> Spectrum:
                chosen = np.ones(len(rows), np.bool_) if fold < 0 else assigned != fold
                own = None if weights is None else weights[chosen]
                return _dual(rows[chosen], targets[chosen], own, transform).spectrum

        whole, *self._folds = (executor.map if executor else map)(of, range(-1, folds))
        super().__init__(whole, rows, targets, weights, executor)

    def _held_out(self, alphas: Floats, use: Callable[[Positions, Floats], Used]) -> Iterator[Used]:
        for fold, spectrum in enumerate(self._folds):
            coefficients = spectrum.weights(alphas)

            def of(where: Positions, known: Spectrum = spectrum, weights: Floats = coefficients) -> Used:
                moved = self._rows[where] - known.centre
                return use(where, np.tensordot(moved, weights, axes=1) + known.level)

            mine = np.flatnonzero(self._assigned == fold)
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
        self._dual: _Dual | None = None
        if len(rows) > rows.shape[1]:
            # Parts only so that several threads have one each.
            parts = np.arange(len(rows)) * _PARTS // len(rows)
            known, _ = moments_by_fold(rows, parts, _PARTS, weights, targets, executor)
            spectrum, self._directions = _primal(known, rows.shape[1], transform)
        else:
            self._dual = _dual(rows, targets, weights, transform)
            spectrum = self._dual.spectrum
        super().__init__(spectrum, rows, targets, weights, executor)
        self._squared: dict[int, Floats] = {}

    def _held_out(self, alphas: Floats, use: Callable[[Positions, Floats], Used]) -> Iterator[Used]:
        every = np.arange(len(self._rows))
        dual = self._dual
        if dual is not None:
            yield use(every, self._targets[:, None, :] - dual.errors(alphas))
            return
        coefficients = self.spectrum.weights(alphas)
        shrunk = 1.0 / (self.spectrum.values[:, None] + alphas)
        shares = self._weights / self._weights.sum()

        def of(where: Positions) -> Used:
            moved = self._rows[where] - self.spectrum.centre
            left = 1.0 - shares[where, None] - self._turned(where, moved) @ shrunk
            targets = self._targets[where]
            error = (targets - self.spectrum.level)[:, None, :] - np.tensordot(moved, coefficients, axes=1)
            error /= np.maximum(left, np.finfo(np.float64).eps)[:, :, None]
            return use(where, targets[:, None, :] - error)

        yield from _mapped(self._executor, of, _blocks(every, max(coefficients[0].size, len(coefficients))))

    def _turned(self, where: Positions, moved: Floats) -> Floats:
        """(n, r) squares of the rows along the eigenvectors, times their weights; kept where they fit."""
        known = self._squared.get(int(where[0]))
        if known is not None and len(known) == len(where):
            return known
        squared = (moved @ self._directions) ** 2 * self._weights[where, None]
        if len(self._rows) * squared.shape[1] <= _KEPT:
            self._squared[int(where[0])] = squared
        return squared


@dataclass(frozen=True, eq=False)
class _Dual:
    """The eigenvectors of XX' (N, N - 1) without the constant one, their eigenvalues, targets along them."""

    spectrum: Spectrum
    vectors: Floats
    values: Floats
    along: Floats
    roots: Floats

    def errors(self, alphas: Floats) -> Floats:
        """(N, A, M) errors of each row left out."""
        # alpha above and below the line, for sums of what is positive: nothing cancels.
        shrunk = alphas / (self.values[:, None] + alphas)
        above = np.tensordot(self.vectors, shrunk[:, :, None] * self.along[:, None, :], axes=1)
        left = (self.vectors**2) @ shrunk
        errors: Floats = above / (left * self.roots[:, None])[:, :, None]
        return errors


def _primal(known: Moments, dim: int, transform: Affine) -> tuple[Spectrum, Floats]:
    """The spectrum of rows with targets, and its eigenvectors (dim, r) over raw features."""
    mean, covariance = known.mean, known.covariance()
    scale = _scale(mean[:dim], np.diag(covariance)[:dim], transform)
    values, vectors = np.linalg.eigh(covariance[:dim, :dim] * scale[:, None] * scale)
    values, vectors = _whitened(values, vectors, transform)
    directions = vectors * scale[:, None]
    projected = known.weight * (directions.T @ covariance[:dim, dim:])
    return (
        Spectrum(mean[:dim], mean[dim:], known.weight * values, projected, lambda over: directions @ over),
        directions,
    )


def _dual(rows: Rows, targets: Floats, weights: Floats | None, transform: Affine) -> _Dual:
    weights = np.ones(len(rows)) if weights is None else weights
    total, roots = float(weights.sum()), np.sqrt(weights)
    centre, level = weights @ rows / total, weights @ targets / total
    moved = rows - centre
    scale = _scale(centre, weights @ moved**2 / total, transform)
    moved *= roots[:, None] * scale
    products = moved @ moved.T
    # The constant is no direction of the rows: lifted above all others, it is the last, and is dropped.
    products += (2.0 * products.trace() + 1.0) * np.outer(roots, roots) / total
    values, vectors = np.linalg.eigh(products)
    values, vectors = values[:-1], vectors[:, :-1]
    values = np.where(values > len(rows) * np.finfo(np.float64).eps * values.max(initial=0.0), values, 0.0)
    along = vectors.T @ (roots[:, None] * (targets - level))
    kept = values > (_TINY * values.max(initial=0.0) if transform == "whiten" else 0.0)
    lengths = np.sqrt(values[kept])
    # Whitened, every direction that is kept has the variance 1.
    factor = np.sqrt(total) / lengths if transform == "whiten" else np.ones(len(lengths))
    inner, features = vectors[:, kept] / lengths * factor, moved.T * scale[:, None]
    values = np.where(kept, total, 0.0) if transform == "whiten" else values
    spectrum = Spectrum(
        centre=centre,
        level=level,
        values=values[kept],
        projected=(lengths * factor)[:, None] * along[kept],
        lift=lambda over: features @ (inner @ over),
    )
    return _Dual(spectrum, vectors, values, along, roots)


def _scale(mean: Floats, variances: Floats, transform: Affine) -> Floats:
    """(D,) what features are multiplied by; 1 for those that are constant up to rounding."""
    if transform != "standardise":
        return np.ones(len(mean))
    spread = np.sqrt(np.maximum(variances, 0.0))
    constant = spread <= _CONSTANT * np.abs(mean)
    return 1.0 / np.where(constant, 1.0, spread)


def _whitened(values: Floats, vectors: Floats, transform: Affine) -> tuple[Floats, Floats]:
    if transform != "whiten":
        return np.maximum(values, 0.0), vectors
    kept = values > _TINY * max(values[-1], 0.0)
    return np.ones(int(kept.sum())), vectors[:, kept] / np.sqrt(values[kept])


def _mapped(
    executor: Executor | None, function: Callable[[Positions], Used], blocks: Iterator[Positions]
) -> Iterator[Used]:
    return (executor.map if executor else map)(function, blocks)


def _blocks(positions: Positions, size: int) -> Iterator[Positions]:
    """``positions`` in pieces of so many rows that ``size`` numbers for each fit a block."""
    step = min(max(1, _BLOCK // max(size, 1)), _ROWS)
    for start in range(0, len(positions), step):
        yield positions[start : start + step]
