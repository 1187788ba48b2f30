"""What the ridge regressions of one training set under all penalties share: one eigendecomposition.

Of X'X where there are more rows than features, else of XX'. In float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.solver.moments import Moments

Rows = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
Affine: TypeAlias = Literal["standardise", "whiten", "none"]

# Of the largest variance: what whitening leaves out.
_TINY = 1e-6
# Of its mean: the spread below which a feature counts as constant, as for `kinds.linear.Standardiser`.
_CONSTANT = 1e-5
# And below which any does: one divided by less comes near float32's largest number.
_LEAST_SPREAD = 1e-30


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


@dataclass(frozen=True, eq=False)
class Dual:
    """The eigenvectors of XX' (N, N - 1) without the constant one, their eigenvalues, targets along them."""

    spectrum: Spectrum
    vectors: Floats
    values: Floats
    along: Floats
    roots: Floats

    def errors(self, where: Positions, alphas: Floats) -> Floats:
        """(n, A, M) errors of rows at ``where``, each left out."""
        # alpha above and below the line, for sums of what is positive: nothing cancels.
        shrunk = alphas / (self.values[:, None] + alphas)
        vectors = self.vectors[where]
        above = np.tensordot(vectors, shrunk[:, :, None] * self.along[:, None, :], axes=1)
        left = (vectors**2) @ shrunk
        errors: Floats = above / (left * self.roots[where, None])[:, :, None]
        return errors


def primal(known: Moments, dim: int, transform: Affine) -> tuple[Spectrum, Floats]:
    """The spectrum of rows with targets, and its eigenvectors (dim, r) over raw features."""
    mean, covariance = known.mean, known.covariance()
    scale = _scale(mean[:dim], np.diag(covariance), transform)
    values, vectors = np.linalg.eigh(covariance[:, :dim] * scale[:, None] * scale)
    values, vectors = _whitened(values, vectors, transform)
    directions = vectors * scale[:, None]
    projected = known.weight * (directions.T @ covariance[:, dim:])
    return (
        Spectrum(mean[:dim], mean[dim:], known.weight * values, projected, lambda over: directions @ over),
        directions,
    )


def dual(rows: Rows, targets: Floats, weights: Floats | None, transform: Affine) -> Dual:
    """The spectrum of rows with targets by their inner products, for fewer rows than features."""
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
    return Dual(spectrum, vectors, values, along, roots)


def _scale(mean: Floats, variances: Floats, transform: Affine) -> Floats:
    """(D,) what features are multiplied by; 1 for those that are constant up to rounding."""
    if transform != "standardise":
        return np.ones(len(mean))
    spread = np.sqrt(np.maximum(variances, 0.0))
    constant = spread <= np.maximum(_CONSTANT * np.abs(mean), _LEAST_SPREAD)
    return 1.0 / np.where(constant, 1.0, spread)


def _whitened(values: Floats, vectors: Floats, transform: Affine) -> tuple[Floats, Floats]:
    if transform != "whiten":
        return np.maximum(values, 0.0), vectors
    kept = values > _TINY * max(values[-1], 0.0)
    return np.ones(int(kept.sum())), vectors[:, kept] / np.sqrt(values[kept])
