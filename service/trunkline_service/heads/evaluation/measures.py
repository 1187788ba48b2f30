"""Figures of classes and probabilities. Pure functions of numpy arrays.

``codes`` are the (N,) true classes, ``predicted`` the (N,) predicted ones, ``probabilities`` are (N, K)
with rows that sum to 1. Ratios with nothing below the line are 0, as scikit-learn gives them with
``zero_division=0``. ``weights`` are (N,) and positive; None stands for equal ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Weights = NDArray[np.float64] | None

ECE_BINS = 15
# The 97.5% quantile of the normal distribution.
_Z = 1.959963984540054


def confusion_matrix(codes: Codes, predicted: Codes, classes: int) -> NDArray[np.int64]:
    """(K, K) counts; row: true class, column: predicted class."""
    cells = np.bincount(codes * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)


def ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    """``above / below``, and 0 where nothing is below."""
    found: NDArray[np.float64] = np.zeros(np.shape(above), np.float64)
    np.divide(above, below, out=found, where=np.asarray(below) > 0)
    return found


def log_loss(codes: Codes, probabilities: NDArray[Any], weights: Weights = None) -> float:
    """Mean negative log probability of the true class; 0 counts as the smallest step from 1 (2^-52)."""
    truth = np.take_along_axis(probabilities, codes[:, None], axis=1)[:, 0].astype(np.float64)
    losses = -np.log(np.clip(truth, np.finfo(np.float64).eps, 1.0))
    return float(np.average(losses, weights=weights))


def binary_log_loss(
    indicator: NDArray[np.bool_], probabilities: NDArray[Any], weights: Weights = None
) -> float:
    """Mean of the log loss over all (N, K) yes-or-no decisions, in nats; clipped like ``log_loss``."""
    truth = np.where(indicator, probabilities, 1.0 - probabilities).astype(np.float64)
    losses = -np.log(np.clip(truth, np.finfo(np.float64).eps, 1.0)).mean(axis=1)
    return float(np.average(losses, weights=weights))


def reliability(
    confidence: NDArray[Any], right: NDArray[np.bool_], weights: Weights = None, bins: int = ECE_BINS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(bins,) each: weight, mean confidence and share right of bins of equal width; 0 in empty bins.

    Bin m takes confidences in ((m - 1) / bins, m / bins].
    """
    where = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    each = np.ones(len(confidence)) if weights is None else weights
    weight: NDArray[np.float64] = np.bincount(where, weights=each, minlength=bins).astype(np.float64)
    sure = np.bincount(where, weights=each * confidence, minlength=bins)
    hits = np.bincount(where, weights=each * right, minlength=bins)
    return weight, ratio(sure, weight), ratio(hits, weight)


def calibration_error(
    confidence: NDArray[Any], right: NDArray[np.bool_], weights: Weights = None, bins: int = ECE_BINS
) -> float:
    """Mean distance of confidence and share right over bins of equal width, weighted by rows.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.

    Args:
        confidence: (N,) what the model gave its answers.
        right: (N,) whether they were right.
        weights: Of the rows.
        bins: How many.
    """
    weight, sure, share = reliability(confidence, right, weights, bins)
    return float((weight * np.abs(share - sure)).sum() / weight.sum())


def expected_calibration_error(
    codes: Codes, probabilities: NDArray[Any], weights: Weights = None, bins: int = ECE_BINS
) -> float:
    """The calibration error of the most probable class."""
    right = probabilities.argmax(axis=1) == codes
    return calibration_error(probabilities.max(axis=1).astype(np.float64), right, weights, bins)


def wilson_interval(successes: float, n: float) -> tuple[float, float]:
    """The 95% score interval of a share (Wilson 1927); honest at 0%, at 100% and for few rows."""
    share = successes / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)
