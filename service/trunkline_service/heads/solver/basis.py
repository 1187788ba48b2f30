"""The Gram matrix's eigenbasis, in which the loss's curvature is nearly diagonal.

In that basis the Hessian of a class's weights is about ``mean(p (1 - p)) * eigenvalues``: exactly so where
probabilities do not depend on the row, and near enough otherwise to be what L-BFGS starts from (a tighter
form of the bound of Boehning 1992, "Multinomial logistic regression algorithm"). A fold's Gram is the
total less its part, so one basis serves all folds. The penalty ``|W|^2`` is the same in every orthonormal
basis. The rows are never rotated: the weights are, before and after each pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.solver.rows import Rows

Array = NDArray[Any]
# An eigendecomposition of dim 2,048 costs what 150 passes over 4,000 rows of 37 classes cost, and saves a
# third of some 200; where dim squared is below this many times rows x classes, it pays.
_WORTH = 10
# Otherwise the largest directions are found, which is most of what it saves, by so many rounds of a subspace
# iteration (Halko et al. 2011) with so many extra ones.
_DIRECTIONS, _EXTRA, _ROUNDS = 256, 16, 2


@dataclass(frozen=True, eq=False)
class Basis:
    """Orthonormal directions, and the mean squares of the rows along them.

    Where there are as many as features, weights and gradients are kept in their coordinates, else in the
    features' own.

    Attributes:
        vectors: (D, r), a direction a column; r may be 0.
        spectrum: (r,) float64.
        rest: Mean square along each of the other D - r directions.
    """

    vectors: Array
    spectrum: NDArray[np.float64]
    rest: float

    @classmethod
    def of(cls, rows: Rows, weights: NDArray[np.float64], classes: int) -> Basis:
        """All eigenvectors of the Gram matrix where they are worth their price, else the largest."""
        exact = np.dtype(rows.dtype) == np.float64
        if exact or rows.dim**2 <= _WORTH * len(rows) * classes or rows.dim <= 2 * _DIRECTIONS:
            spectrum, vectors = np.linalg.eigh(rows.gram(weights) / weights.sum())
            return cls(vectors.astype(rows.dtype), np.maximum(spectrum, 0), 0.0)
        shares = (weights / weights.sum()).astype(rows.dtype)
        directions = np.random.default_rng(0).normal(size=(rows.dim, _DIRECTIONS + _EXTRA))
        for _ in range(_ROUNDS):
            directions, _ = np.linalg.qr(rows.gram_times(shares, directions.astype(rows.dtype)))
        along = directions.T @ rows.gram_times(shares, directions.astype(rows.dtype))
        spectrum, turn = np.linalg.eigh((along + along.T) / 2)
        kept = slice(_EXTRA, None)
        spectrum = np.maximum(spectrum[kept], 0)
        rest = max(rows.mean_square(shares) - float(spectrum.sum()), 0.0) / (rows.dim - _DIRECTIONS)
        return cls((directions @ turn[:, kept]).astype(rows.dtype), spectrum, rest)

    @property
    def whole(self) -> bool:
        """Whether there are as many directions as features."""
        return bool(self.vectors.shape[0] == self.vectors.shape[1])

    def to_features(self, weights: Array) -> Array:
        """(..., D + 1) weights in the basis's coordinates as those of features; the last are intercepts."""
        return self._turned(weights, self.vectors.T) if self.whole else weights

    def from_features(self, weights: Array) -> Array:
        """(..., D + 1) weights, or gradients, of features in the basis's coordinates."""
        return self._turned(weights, self.vectors) if self.whole else weights

    def preconditioner(self, penalties: NDArray[np.float64], curvatures: Array, dtype: Any) -> Preconditioner:
        """An estimate of the inverse Hessians of B problems.

        Args:
            penalties: (B,)
            curvatures: (K, B) mean of ``p (1 - p)``.
            dtype: Of the weights.
        """
        curved = np.maximum(curvatures, 1e-12)[..., None]
        along = 1 / (curved * self.spectrum + penalties[:, None])
        if self.whole:
            diagonal = np.concatenate([along, 1 / curved], axis=2)
            return Preconditioner(diagonal.astype(dtype), None, None)
        outside = 1 / (curved * self.rest + penalties[:, None])
        shape = (*curved.shape[:2], self.vectors.shape[0])
        diagonal = np.concatenate([np.broadcast_to(outside, shape), 1 / curved], axis=2)
        return Preconditioner(diagonal.astype(dtype), self.vectors, (along - outside).astype(dtype))

    @staticmethod
    def _turned(weights: Array, matrix: Array) -> Array:
        turned = np.empty_like(weights)
        turned[..., :-1] = _product(weights[..., :-1], matrix)
        turned[..., -1] = weights[..., -1]
        return turned


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """A diagonal, and along some directions another one.

    Attributes:
        diagonal: (K, B, D + 1).
        vectors: (D, r), or None.
        more: (K, B, r) what to add along them, or None.
    """

    diagonal: Array
    vectors: Array | None
    more: Array | None

    def __call__(self, vectors: Array) -> Array:
        """(K, B, D + 1) the estimate times ``vectors``."""
        scaled: Array = self.diagonal * vectors
        if self.vectors is not None and self.more is not None:
            along = _product(vectors[..., :-1], self.vectors) * self.more
            scaled[..., :-1] += _product(along, self.vectors.T)
        return scaled

    def at(self, chosen: Array) -> Preconditioner:
        """Of the chosen problems."""
        more = None if self.more is None else self.more[:, chosen]
        return Preconditioner(self.diagonal[:, chosen], self.vectors, more)


def _product(rows: Array, matrix: Array) -> Array:
    """(..., n) of (..., m) by (m, n): one product, where numpy would make one for each leading index."""
    flat = np.ascontiguousarray(rows).reshape(-1, rows.shape[-1])
    return (flat @ matrix).reshape(*rows.shape[:-1], -1)
