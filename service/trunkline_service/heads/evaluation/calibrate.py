"""Temperature scaling: one number that makes a head's confidence match its accuracy.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks". The targets are smoothed as in
Platt 1999 ("Probabilistic Outputs for Support Vector Machines"): from n rows out of n right, Laplace's
rule gives (n + 1) / (n + 2), not certainty. Without it, the best temperature of a few separable rows is 0.
Of weighted rows n is as many equal ones as would vary as much (Kish 1965): a few heavy ones are few.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.kinds.linear import softmax

Logits = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64] | None

# Limits of 1 / temperature. Only data without any signal (or with all logits equal) reaches them.
_SHARPNESS = (1e-3, 1e3)
_STEPS = 50
_TOLERANCE = 1e-8
# One number needs no more logits than this: every n-th row is looked at. It stays within a percent.
_MOST_LOGITS = 20_000_000
# Logits that are held in float64 at a time.
_CHUNK = 1 << 18


def fit_temperature(logits: Logits, codes: Codes, weights: Weights = None) -> float:
    """The temperature T > 0 with the least smoothed log loss of ``softmax(logits / T)``.

    Args:
        logits: (N, K) of rows that the head was *not* fitted on; of none the temperature is 1.
        codes: (N,) true classes.
        weights: (N,) positive, of the rows; None for equal ones.
    """
    if not len(logits):
        return 1.0
    stride = 1 + (logits.size - 1) // _MOST_LOGITS
    logits, codes = logits[::stride], codes[::stride]
    each = np.ones(len(codes)) if weights is None else effective_weights(weights[::stride])
    smoothing = 1.0 / (float(each.sum()) + 2)
    truth = np.take_along_axis(logits, codes[:, None], axis=1)[:, 0].astype(np.float64)
    others = (logits.sum(axis=1, dtype=np.float64) - truth) / (logits.shape[1] - 1)
    target = float((each * ((1.0 - smoothing) * truth + smoothing * others)).sum())

    # The loss is convex in the sharpness s = 1 / T, with slope sum(E_p[z]) - target and curvature
    # sum(Var_p[z]): Newton's method, kept inside a bracket that each slope narrows.
    low, high = _SHARPNESS
    sharpness = 1.0
    for _ in range(_STEPS):
        slope, curvature = _moments(logits, sharpness, each)
        slope -= target
        low, high = (low, sharpness) if slope > 0 else (sharpness, high)
        step = sharpness - slope / curvature if curvature > 0 else high
        following = step if low < step < high else float(np.sqrt(low * high))
        if abs(following - sharpness) <= _TOLERANCE * sharpness:
            break
        sharpness = following
    return 1.0 / sharpness


def effective_weights(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,) the weights in such a unit that their sum is the number of equal rows that would vary as much."""
    scaled_weights = weights / weights.max()
    unit: npt.NDArray[np.float64] = scaled_weights * (scaled_weights.sum() / (scaled_weights**2).sum())
    return unit


def _moments(logits: Logits, sharpness: float, weights: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Weighted sums over rows of the logits' mean and variance under ``softmax(sharpness * logits)``."""
    mean = variance = 0.0
    for where in _chunks(logits):
        exact = logits[where].astype(np.float64)
        probabilities = softmax(sharpness * exact)
        means = np.einsum("nk,nk->n", probabilities, exact)
        exact -= means[:, None]
        mean += float(weights[where] @ means)
        variance += float(weights[where] @ np.einsum("nk,nk,nk->n", probabilities, exact, exact))
    return mean, variance


def scaled(logits: Logits, temperature: float) -> npt.NDArray[np.float32]:
    """(N, K) float32 ``softmax(logits / temperature)``, computed in float64."""
    found = np.empty(logits.shape, np.float32)
    for where in _chunks(logits):
        found[where] = softmax(logits[where].astype(np.float64) / temperature)
    return found


def scaled_log_loss(logits: Logits, codes: Codes, temperature: float, weights: Weights = None) -> float:
    """Mean negative log probability of the true class under ``softmax(logits / temperature)``, in nats.

    Args:
        logits: (N, K)
        codes: (N,) true classes.
        temperature: Above 0.
        weights: (N,) of the rows; None for equal ones.
    """
    losses = np.empty(len(logits))
    for where in _chunks(logits):
        moved = logits[where].astype(np.float64) / temperature
        moved -= moved.max(axis=1, keepdims=True)
        truth = np.take_along_axis(moved, codes[where, None], axis=1)[:, 0]
        losses[where] = np.log(np.exp(moved).sum(axis=1)) - truth
    return float(np.average(losses, weights=weights))


def cross_fitted(
    logits: Logits, codes: Codes, assigned: Codes, weights: Weights = None
) -> npt.NDArray[np.float32]:
    """(N, K) float32 calibrated probabilities in which no row took part in choosing its own temperature.

    Args:
        logits: (N, K) out-of-fold.
        codes: (N,) true classes.
        assigned: (N,) fold of each row; of a single fold the temperature is 1.
        weights: (N,) positive, of the rows; None for equal ones.
    """
    probabilities = np.empty(logits.shape, np.float32)
    for fold in np.unique(assigned):
        held_out = assigned == fold
        own = None if weights is None else weights[~held_out]
        temperature = fit_temperature(logits[~held_out], codes[~held_out], own)
        probabilities[held_out] = scaled(logits[held_out], temperature)
    return probabilities


def _chunks(logits: Logits) -> Iterator[slice]:
    size = max(1, _CHUNK // logits.shape[1])
    return (slice(start, start + size) for start in range(0, len(logits), size))
