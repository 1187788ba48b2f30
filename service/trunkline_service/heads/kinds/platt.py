"""Platt scaling: scores to probabilities, for each of several labels on its own.

Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines", with his smoothed targets.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.evaluation.calibrate import effective_weights
from trunkline_service.heads.kinds.judged import sigmoid

Floats = npt.NDArray[np.float64]

_STEPS = 50
_TOLERANCE = 1e-8


def fit_platt(
    scores: Floats, indicator: npt.NDArray[np.bool_], weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """The slopes (K,) and offsets (K,) with the least log loss of ``sigmoid(slope * score + offset)``.

    Slopes are not negative: where higher scores make a label less likely, which only chance does, the
    probability is its share of rows.

    Args:
        scores: (N, K) of rows that the weights were *not* fitted on.
        indicator: (N, K) which rows have which label.
        weights: (N,) positive, of the rows; None for equal ones.
    """
    each = np.ones(len(scores)) if weights is None else effective_weights(weights)
    count = each.sum()
    having = each @ indicator
    targets = np.where(indicator, (having + 1) / (having + 2), 1 / (count - having + 2))
    centre = each @ scores / count
    spread = np.sqrt(each @ (scores - centre) ** 2 / count)
    spread = np.where(spread > 0, spread, 1.0)
    standard = (scores - centre) / spread
    share = each @ targets / count
    slopes, offsets = np.zeros_like(share), np.log(share / (1 - share))
    losses = _losses(standard, targets, slopes, offsets, each)
    for _ in range(_STEPS):
        step = _newton(standard, targets, slopes, offsets, each)
        following = _shortened(standard, targets, (slopes, offsets), step, losses, each)
        moved = np.abs(following[0] - slopes).max() + np.abs(following[1] - offsets).max()
        slopes, offsets, losses = following
        if moved <= _TOLERANCE:
            break
    chance = slopes < 0
    slopes, offsets = np.where(chance, 0.0, slopes), np.where(chance, np.log(share / (1 - share)), offsets)
    return slopes / spread, offsets - slopes * centre / spread


def _newton(
    scores: Floats, targets: Floats, slopes: Floats, offsets: Floats, weights: Floats
) -> tuple[Floats, Floats]:
    """Newton's step of every label at once: 2 x 2 systems, solved by hand."""
    probabilities = sigmoid(scores * slopes + offsets)
    error, curvature = probabilities - targets, probabilities * (1 - probabilities)
    slope, level = weights @ (error * scores), weights @ error
    aa, ab, bb = weights @ (curvature * scores**2), weights @ (curvature * scores), weights @ curvature
    # Scores that are all equal say nothing of the slope: it stays.
    aa, bb = aa + 1e-9 * weights.sum(), bb + 1e-12 * weights.sum()
    determinant = aa * bb - ab * ab
    return (ab * level - bb * slope) / determinant, (ab * slope - aa * level) / determinant


def _shortened(
    scores: Floats,
    targets: Floats,
    start: tuple[Floats, Floats],
    step: tuple[Floats, Floats],
    losses: Floats,
    weights: Floats,
) -> tuple[Floats, Floats, Floats]:
    """The step of each label, halved until its loss does not rise."""
    length = np.ones_like(losses)
    for _ in range(20):
        slopes, offsets = start[0] + length * step[0], start[1] + length * step[1]
        reached = _losses(scores, targets, slopes, offsets, weights)
        worse = reached > losses + 1e-12 * np.abs(losses)
        if not worse.any():
            break
        length = np.where(worse, length / 2, length)
    return (
        np.where(worse, start[0], slopes),
        np.where(worse, start[1], offsets),
        np.where(worse, losses, reached),
    )


def _losses(scores: Floats, targets: Floats, slopes: Floats, offsets: Floats, weights: Floats) -> Floats:
    logits = scores * slopes + offsets
    losses: Floats = weights @ (np.logaddexp(0.0, logits) - targets * logits)
    return losses
