"""The arithmetic of linear heads: standardising, softmax, and folding everything into one Gemm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# float32 embeddings that vary by less than this share of their mean hold too few bits of signal:
# dividing by so small a spread would turn rounding errors into features.
_CONSTANT = 1e-5
# Smaller spreads come near float32's least numbers, and one divided by them near its largest.
_LEAST_SPREAD = 1e-30
# Rows that are held in float64 at a time.
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Takes each feature to mean 0 and variance 1; constant features to 0.

    Attributes:
        mean: (dim,) float64.
        scale: (dim,) float64, standard deviations; 1 where a feature is constant.
    """

    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: npt.NDArray[np.float32]) -> Standardiser:
        """The standardiser of these (N, dim) rows, N at least 1; one pass, which may be over a mapped file."""
        # Near the mean, so that no digits cancel.
        shift = rows[:_BLOCK].mean(axis=0, dtype=np.float64)
        sums, squares = np.zeros(len(shift)), np.zeros(len(shift))
        for start in range(0, len(rows), _BLOCK):
            moved = rows[start : start + _BLOCK] - shift
            sums += moved.sum(axis=0)
            squares += np.einsum("ij,ij->j", moved, moved)
        offset = sums / len(rows)
        mean = shift + offset
        spread = np.sqrt(np.maximum(squares / len(rows) - offset**2, 0.0))
        constant = spread <= np.maximum(_CONSTANT * np.abs(mean), _LEAST_SPREAD)
        return cls(mean, np.where(constant, 1.0, spread))

    def __call__(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(N, dim) float64 standardised rows."""
        return (rows - self.mean) / self.scale


def fold_affine(
    coefficients: npt.NDArray[np.float64],
    intercepts: npt.NDArray[np.float64],
    standardiser: Standardiser,
    temperature: float,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """One affine map instead of standardising, classifying and dividing by the temperature.

    Args:
        coefficients: (K, dim) over standardised features.
        intercepts: (K,)
        standardiser: What the features went through.
        temperature: What the logits are divided by.

    Returns:
        W (K, dim) and b (K,), float32: ``softmax(x @ W.T + b)`` are the calibrated probabilities of raw x.
    """
    weights = coefficients / standardiser.scale
    bias = intercepts - weights @ standardiser.mean
    return (weights / temperature).astype(np.float32), (bias / temperature).astype(np.float32)


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    result: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result
