"""The two losses, class by class and in place: logits in, weighted residuals and mean losses out.

Blocks are laid out (K, B, n): classes, problems, rows. Sums over classes then run along long contiguous
rows, which numpy does at memory speed even where K is 3.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Loss(Protocol):
    """A loss over blocks of logits.

    Attributes:
        targets: What is true of each row: (N,) codes, or (N, K) bool.
    """

    targets: Array

    def reordered(self, order: NDArray[np.int64]) -> Loss:
        """The loss of the same rows in another order."""

    def residuals(
        self, logits: Array, where: slice, weights: Array, *, curvature: bool
    ) -> tuple[Array, Array | None]:
        """Turns logits into weighted residuals, in place.

        Args:
            logits: (K, B, n), overwritten by the derivative of the weighted loss by each logit.
            where: The n rows.
            weights: (B, n) weight of each row in each problem; 0 leaves a row out.
            curvature: Whether to sum that, too.

        Returns:
            The weighted sum of the losses, (B,) float64, and of the curvatures ``p (1 - p)``, (K, B) or None.
        """


class Softmax:
    """Multinomial: ``-log softmax(logits)[class]``."""

    def __init__(self, codes: NDArray[np.int64]) -> None:
        """``codes`` (N,) are the true classes."""
        self.targets: Array = codes

    def reordered(self, order: NDArray[np.int64]) -> Softmax:
        """See `Loss`."""
        return Softmax(self.targets[order])

    def residuals(
        self, logits: Array, where: slice, weights: Array, *, curvature: bool
    ) -> tuple[Array, Array | None]:
        """See `Loss`."""
        codes, rows = self.targets[where], np.arange(logits.shape[2])
        logits -= logits.max(axis=0)
        truth = logits[codes, :, rows].T
        np.exp(logits, out=logits)
        # The true class is left out of the sum: where it is nearly certain, what is left of the loss and of
        # the residual is the others' sum, which 1 + sum would round away.
        logits[codes, :, rows] = 0
        others = logits.sum(axis=0)
        with np.errstate(divide="ignore"):
            losses = np.logaddexp(0, np.log(others) - truth)
        certainty = np.exp(truth)
        scale = 1 / (others + certainty)
        wrong = others * scale
        curvatures = None
        if curvature:
            chances = logits * scale
            curvatures = ((1 - chances) * chances * weights).sum(axis=2)
            of_truth = (wrong * certainty * scale * weights).T
            np.add.at(curvatures, codes, of_truth)
        logits *= scale * weights
        logits[codes, :, rows] = -(wrong * weights).T
        return (losses * weights).sum(axis=1, dtype=np.float64), curvatures


class Sigmoid:
    """One-vs-rest: the sum over classes of ``log(1 + exp(-z))``, where z is the logit towards the truth."""

    def __init__(self, indicator: NDArray[np.bool_]) -> None:
        """``indicator`` (N, K) tells the classes of each row."""
        self.targets: Array = indicator
        self._signs = np.where(indicator.T, np.float32(1), np.float32(-1))

    def reordered(self, order: NDArray[np.int64]) -> Sigmoid:
        """See `Loss`."""
        return Sigmoid(self.targets[order])

    def residuals(
        self, logits: Array, where: slice, weights: Array, *, curvature: bool
    ) -> tuple[Array, Array | None]:
        """See `Loss`."""
        signs = self._signs[:, None, where].astype(logits.dtype, copy=False)
        logits *= signs
        small = np.exp(-np.abs(logits))
        losses = ((np.log1p(small) + np.maximum(-logits, 0)) * weights).sum(axis=(0, 2), dtype=np.float64)
        # The probability of the wrong side: small / (1 + small) where the logit is right, else 1 / (1 + small).
        wrong = np.where(logits >= 0, small, 1) / (1 + small)
        curvatures = ((1 - wrong) * wrong * weights).sum(axis=2) if curvature else None
        np.multiply(wrong, -signs * weights, out=logits)
        return losses, curvatures
