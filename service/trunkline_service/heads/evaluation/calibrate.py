"""Temperature scaling: one number that makes a head's confidence match its accuracy.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks". The targets are smoothed as in
Platt 1999 ("Probabilistic Outputs for Support Vector Machines"): from n rows out of n right, Laplace's
rule gives (n + 1) / (n + 2), not certainty. Without it, the best temperature of a few separable rows is 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.kinds.linear import softmax

# Limits of 1 / temperature. Only data without any signal (or with all logits equal) reaches them.
_SHARPNESS = (1e-3, 1e3)
_STEPS = 50
_TOLERANCE = 1e-8


def fit_temperature(logits: npt.NDArray[np.float64], codes: npt.NDArray[np.int64]) -> float:
    """The temperature T > 0 with the least smoothed log loss of ``softmax(logits / T)``.

    Args:
        logits: (N, K) of rows that the weights were *not* fitted on.
        codes: (N,) true classes.
    """
    smoothing = 1.0 / (len(codes) + 2)
    truth = np.take_along_axis(logits, codes[:, None], axis=1)[:, 0]
    others = (logits.sum(axis=1) - truth) / (logits.shape[1] - 1)
    target = float(((1.0 - smoothing) * truth + smoothing * others).sum())

    # The loss is convex in the sharpness s = 1 / T, with slope sum(E_p[z]) - target and curvature
    # sum(Var_p[z]): Newton's method, kept inside a bracket that each slope narrows.
    low, high = _SHARPNESS
    sharpness = 1.0
    for _ in range(_STEPS):
        slope, curvature = _moments(logits, sharpness)
        slope -= target
        low, high = (low, sharpness) if slope > 0 else (sharpness, high)
        step = sharpness - slope / curvature if curvature > 0 else high
        following = step if low < step < high else float(np.sqrt(low * high))
        if abs(following - sharpness) <= _TOLERANCE * sharpness:
            break
        sharpness = following
    return 1.0 / sharpness


def _moments(logits: npt.NDArray[np.float64], sharpness: float) -> tuple[float, float]:
    """Sums over rows of the logits' mean and variance under ``softmax(sharpness * logits)``."""
    probabilities = softmax(sharpness * logits)
    means = (probabilities * logits).sum(axis=1)
    variances = (probabilities * (logits - means[:, None]) ** 2).sum(axis=1)
    return float(means.sum()), float(variances.sum())


def cross_fitted(
    logits: npt.NDArray[np.float64], codes: npt.NDArray[np.int64], assigned: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(N, K) calibrated probabilities in which no row took part in choosing its own temperature.

    Args:
        logits: (N, K) out-of-fold.
        codes: (N,) true classes.
        assigned: (N,) fold of each row; at least two folds.
    """
    probabilities = np.empty(logits.shape, dtype=np.float64)
    for fold in np.unique(assigned):
        held_out = assigned == fold
        temperature = fit_temperature(logits[~held_out], codes[~held_out])
        probabilities[held_out] = softmax(logits[held_out] / temperature)
    return probabilities
