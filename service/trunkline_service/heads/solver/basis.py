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


@dataclass(frozen=True, eq=False)
class Basis:
    """An orthonormal basis and the mean squares of the rows along it.

    Attributes:
        vectors: (dim, dim), a direction a column; None for the features themselves.
        spectrum: (dim,) float64.
    """

    vectors: Array | None
    spectrum: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Rows, weights: NDArray[np.float64], classes: int) -> Basis:
        """The eigenbasis where it is worth its price, else the features."""
        exact = np.dtype(rows.dtype) == np.float64
        if not exact and rows.dim**2 > _WORTH * len(rows) * classes:
            # Standardised features: each has mean square 1, or 0 where it is constant.
            return cls(None, np.ones(rows.dim))
        spectrum, vectors = np.linalg.eigh(rows.gram(weights) / weights.sum())
        return cls(vectors.astype(rows.dtype), np.maximum(spectrum, 0))

    def to_features(self, weights: Array) -> Array:
        """(..., dim) weights along the basis as weights of features."""
        return weights if self.vectors is None else weights @ self.vectors.T

    def from_features(self, weights: Array) -> Array:
        """(..., dim) weights, or gradients, of features as those along the basis."""
        return weights if self.vectors is None else weights @ self.vectors
