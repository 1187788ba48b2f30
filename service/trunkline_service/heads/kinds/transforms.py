"""What embeddings go through before a head, fitted on training rows and folded away afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.kinds.linear import Standardiser
from trunkline_service.heads.network import Linear, Normaliser
from trunkline_service.heads.options import Transform
from trunkline_service.heads.solver.moments import BLOCK, moments

Rows = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

# Of the largest eigenvalue. Directions with less variance are dropped: float32 embeddings hold too few bits
# of them, and whitening would blow up what is left.
_TINY = 1e-6
# Transformed in float64 at a time: they stay in the cache, and in memory that the process has already. Of
# larger blocks each is mapped anew, which threads that do it all at once wait for.
_NUMBERS = 1 << 16


@dataclass(frozen=True, eq=False)
class FittedTransform:
    """``(normaliser(x) - mean) @ matrix.T``; any part may be missing.

    Attributes:
        normaliser: First; None for affine transforms.
        mean: (dim,) float64; None for 0.
        matrix: (D, dim) float64, or (dim,) for a diagonal one; None for 1.
    """

    normaliser: Normaliser | None = None
    mean: Floats | None = None
    matrix: Floats | None = None

    def __call__(self, rows: Rows) -> Rows:
        """(N, D) float32 of (N, dim) float32; the mean is subtracted in float64."""
        if self.normaliser is not None:
            rows = self.normaliser(rows)
        if self.mean is None and self.matrix is None:
            return rows
        width = rows.shape[1] if self.matrix is None or self.matrix.ndim == 1 else len(self.matrix)
        out = np.empty((len(rows), width), np.float32)
        rotated = self.matrix is not None and self.matrix.ndim > 1
        step = BLOCK if rotated else max(1, _NUMBERS // width)
        for start in range(0, len(rows), step):
            out[start : start + step] = self._affine(rows[start : start + step])
        return out

    def _affine(self, rows: Rows) -> Floats:
        moved = rows.astype(np.float64) if self.mean is None else rows - self.mean
        if self.matrix is None:
            return moved
        if self.matrix.ndim > 1:
            mapped: Floats = moved @ self.matrix.T
            return mapped
        moved *= self.matrix
        return moved

    def fold(self, coefficients: Floats, intercepts: Floats, temperature: float = 1.0) -> Linear:
        """One Linear for the transform's affine part, a linear layer on it, and the temperature.

        Args:
            coefficients: (K, D) over transformed features.
            intercepts: (K,)
            temperature: What the outputs are divided by.

        Returns:
            From (normalised) embeddings to K outputs; ``normaliser`` stays in front of it.
        """
        weights, bias = np.asarray(coefficients, np.float64), np.asarray(intercepts, np.float64)
        if self.matrix is not None:
            weights = weights * self.matrix if self.matrix.ndim == 1 else weights @ self.matrix
        if self.mean is not None:
            bias = bias - weights @ self.mean
        return Linear((weights / temperature).astype(np.float32), (bias / temperature).astype(np.float32))

    def unfold(self, linear: Linear, temperature: float = 1.0) -> tuple[Floats, Floats]:
        """The inverse of ``fold``: coefficients (K, D) over transformed features, and intercepts (K,).

        Exact up to rounding for what ``fold`` of this transform gave. Of another Linear, what lies along
        directions that the transform drops is left out.
        """
        weights, bias = linear.W.astype(np.float64) * temperature, linear.b.astype(np.float64) * temperature
        if self.mean is not None:
            bias = bias + weights @ self.mean
        if self.matrix is None:
            return weights, bias
        if self.matrix.ndim == 1:
            return weights / self.matrix, bias
        # Its rows are orthogonal.
        return weights @ (self.matrix / (self.matrix**2).sum(axis=1, keepdims=True)).T, bias


def fit_transform(name: Transform, rows: Rows, *, centred: bool = False) -> FittedTransform:
    """The transform called ``name``, fitted on training rows.

    Args:
        name: ``standardise``: each feature to mean 0 and variance 1, constant ones to 0. ``l2``: each row to
            length 1. ``whiten``: onto the principal components, each to mean 0 and variance 1; those of
            next to no variance are dropped, so that there may be fewer than dim. ``none``.
        rows: (N, dim) float32; N at least 1.
        centred: For ``l2``: subtract the mean row before.
    """
    if name == "l2":
        centre = rows.mean(axis=0, dtype=np.float64) if centred else np.zeros(rows.shape[1])
        return FittedTransform(normaliser=Normaliser(centre.astype(np.float32)))
    if name == "standardise":
        standardiser = Standardiser.of(rows)
        return FittedTransform(mean=standardiser.mean, matrix=1.0 / standardiser.scale)
    if name == "whiten":
        return _whitening(rows)
    return FittedTransform()


def _whitening(rows: Rows) -> FittedTransform:
    mean = rows.mean(axis=0, dtype=np.float64)
    values, vectors = _components(rows, mean)
    # Rows that are all equal keep one direction, of 0.
    kept = values > _TINY * max(values[-1], 0.0)
    kept[-1] = True
    scales = np.sqrt(np.where(values[kept] > 0, values[kept], 1.0))
    return FittedTransform(mean=mean, matrix=vectors[:, kept].T / scales[:, None])


def _components(rows: Rows, mean: Floats) -> tuple[Floats, Floats]:
    """Variances, ascending, and the columns (dim, D) along which they are; D at most the number of rows."""
    if len(rows) >= rows.shape[1]:
        values, vectors = np.linalg.eigh(moments(rows, mean).covariance())
        return values, vectors
    _, lengths, directions = np.linalg.svd(rows - mean, full_matrices=False)
    return lengths[::-1] ** 2 / len(rows), directions[::-1].T
