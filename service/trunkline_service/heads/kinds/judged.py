"""From held-out logits to calibrated probabilities and honest figures, for every kind that classifies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.evaluation.calibrate import (
    cross_fitted,
    fit_temperature,
    scaled,
    scaled_log_loss,
)
from trunkline_service.heads.evaluation.evaluate import Evaluation, evaluate
from trunkline_service.heads.evaluation.kinds import AnyEvaluation
from trunkline_service.heads.evaluation.measures import binary_log_loss
from trunkline_service.heads.evaluation.multi_label import MultiLabelEvaluation, evaluate_multi_label
from trunkline_service.heads.network import Network
from trunkline_service.heads.training.folds import Folds
from trunkline_service.heads.training.training_set import TrainingSet

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judged:
    """What held-out logits say of a classifier.

    Attributes:
        temperature: What its logits are to be divided by.
        evaluation: Of the calibrated probabilities; no row took part in choosing its own temperature.
        out_of_fold: (N, K) float32, those probabilities; NaN for rows that were never held out.
    """

    temperature: float
    evaluation: Evaluation | MultiLabelEvaluation
    out_of_fold: NDArray[np.float32]


def judge(data: TrainingSet, folds: Folds, logits: NDArray[Any]) -> Judged:
    """Calibrates held-out logits and evaluates them.

    Args:
        data: For ``single-label`` or ``multi-label``.
        folds: Of its rows.
        logits: (N, K), each row's from a model that had not seen it; rows of no fold are not looked at.
    """
    held_out = folds.assigned >= 0
    known = logits if held_out.all() else logits[held_out]
    weights = None if data.weights is None else data.weights[held_out]
    parts = calibration_parts(folds)
    probabilities = np.full(logits.shape, np.nan, np.float32)
    evaluation: Evaluation | MultiLabelEvaluation
    if data.task == "multi-label":
        truth, exact = data.indicator()[held_out], known.astype(np.float64)
        temperature = binary_temperature(exact, truth, weights)
        calibrated = np.empty(exact.shape, np.float32)
        for part in np.unique(parts):
            mine = parts == part
            own = None if weights is None else weights[~mine]
            calibrated[mine] = sigmoid(exact[mine] / binary_temperature(exact[~mine], truth[~mine], own))
        evaluation = evaluate_multi_label(
            truth, calibrated, data.classes, folds.count, uncalibrated=sigmoid(exact), weights=weights
        )
    else:
        codes = data.codes()[held_out]
        temperature = fit_temperature(known, codes, weights)
        calibrated = cross_fitted(known, codes, parts, weights)
        evaluation = evaluate(
            codes, calibrated, data.classes, folds.count, uncalibrated=scaled(known, 1.0), weights=weights
        )
    probabilities[held_out] = calibrated
    return Judged(temperature, evaluation, probabilities)


def calibration_parts(folds: Folds) -> NDArray[np.int64]:
    """(n,) the part of each held-out row; each part is calibrated by the others.

    With one fold there is no other to calibrate by: its rows judge each other, in halves.
    """
    parts = folds.assigned[folds.assigned >= 0]
    return parts if folds.count > 1 else np.arange(len(parts)) % 2


def calibrated_loss(data: TrainingSet, held_out: NDArray[np.bool_], logits: NDArray[Any]) -> float:
    """The log loss of held-out logits under their best temperature: what hyper-parameters are chosen by.

    It judges the probabilities that are served, and still tells candidates apart where accuracies tie.
    """
    known = logits if held_out.all() else logits[held_out]
    weights = None if data.weights is None else data.weights[held_out]
    if data.task == "multi-label":
        truth, exact = data.indicator()[held_out], known.astype(np.float64)
        return binary_log_loss(truth, sigmoid(exact / binary_temperature(exact, truth, weights)), weights)
    codes = data.codes()[held_out]
    return scaled_log_loss(known, codes, fit_temperature(known, codes, weights), weights)


def judge_test(data: TrainingSet, network: Network) -> AnyEvaluation | None:
    """The figures of a finished classifier on the test split, or None where there is none."""
    if data.test is None:
        return None
    outputs = network(data.test.embeddings)
    weights = data.test.weights
    if data.task == "multi-label":
        return evaluate_multi_label(data.test.indicator(), outputs, data.classes, 0, weights=weights)
    return evaluate(data.test.codes(), outputs, data.classes, 0, weights=weights)


def binary_temperature(logits: Floats, truth: NDArray[np.bool_], weights: Floats | None = None) -> float:
    """One temperature for all labels of ``sigmoid(logits / T)``; logits and truth are (N, K), weights (N,)."""
    pairs = np.zeros((logits.size, 2))
    pairs[:, 1] = logits.ravel()
    each = None if weights is None else np.repeat(weights, logits.shape[1])
    return fit_temperature(pairs, truth.ravel().astype(np.int64), each)


def sigmoid(logits: Floats) -> Floats:
    """``1 / (1 + exp(-z))`` without overflow."""
    small = np.exp(-np.abs(logits))
    result: Floats = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
    return result
