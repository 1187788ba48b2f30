"""How good a head is on rows that it did not learn from.

Pure functions of numpy arrays. ``codes`` are the (N,) true classes, ``predicted`` the (N,) predicted
ones, ``probabilities`` are (N, K) with rows that sum to 1. Ratios with nothing below the line are 0,
as scikit-learn gives them with ``zero_division=0``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.strict_json import check_fields, check_list

Codes = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]

ECE_BINS = 15
# The 97.5% quantile of the normal distribution.
_Z = 1.959963984540054


@dataclass(frozen=True)
class ClassReport:
    """One class: its label, its rows, and how they were recognised."""

    label: str
    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Evaluation:
    """Out-of-fold figures of a head.

    Attributes:
        n: Rows evaluated.
        folds: Folds of the cross-validation.
        accuracy: Share of rows whose most probable class is the true one.
        accuracy_interval: 95% interval of the accuracy (Wilson 1927), for rows drawn independently;
            near duplicates make it too narrow.
        balanced_accuracy: Mean recall over classes.
        macro_f1: Mean F1 over classes.
        log_loss: Mean negative log probability of the true class, in nats.
        ece: Expected calibration error of the most probable class over 15 bins of equal width
            (Guo et al. 2017).
        baseline_accuracy: Accuracy of always naming the largest class.
        per_class: A report for each class, in the order of the head's outputs.
        confusion: K rows (true) of K counts (predicted).
    """

    n: int
    folds: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    ece: float
    baseline_accuracy: float
    per_class: tuple[ClassReport, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        document["accuracy_interval"] = list(self.accuracy_interval)
        document["per_class"] = [vars(report).copy() for report in self.per_class]
        document["confusion"] = [list(row) for row in self.confusion]
        return document

    @classmethod
    def from_json(cls, document: Any, where: str = "metrics") -> Evaluation:
        """The evaluation in a JSON object.

        Raises:
            ModelFileError: Missing or unknown keys, or values of a wrong type.
        """
        check_fields(document, _EVALUATION_KINDS, where)
        check_list(document["accuracy_interval"], float, f"{where}: accuracy_interval")
        if len(document["accuracy_interval"]) != 2:
            raise ModelFileError(f"{where}: accuracy_interval must be two numbers")
        for i, report in enumerate(document["per_class"]):
            check_fields(report, _REPORT_KINDS, f"{where}: per_class[{i}]")
        for i, row in enumerate(document["confusion"]):
            check_list(row, int, f"{where}: confusion[{i}]")
        low, high = document["accuracy_interval"]
        reports = tuple(ClassReport(**report) for report in document["per_class"])
        confusion = tuple(tuple(row) for row in document["confusion"])
        return cls(
            **document | {"accuracy_interval": (low, high), "per_class": reports, "confusion": confusion}
        )


_REPORT_KINDS = {"label": str, "support": int, "precision": float, "recall": float, "f1": float}
_EVALUATION_KINDS = {
    "n": int,
    "folds": int,
    "accuracy": float,
    "accuracy_interval": list,
    "balanced_accuracy": float,
    "macro_f1": float,
    "log_loss": float,
    "ece": float,
    "baseline_accuracy": float,
    "per_class": list,
    "confusion": list,
}


def evaluate(codes: Codes, probabilities: Probabilities, classes: Sequence[str], folds: int) -> Evaluation:
    """All figures of out-of-fold ``probabilities`` (N, K) for N > 0 rows; ``classes`` gives K labels."""
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(codes, predicted, len(classes))
    reports = per_class(matrix, classes)
    present = [report for report in reports if report.support]
    correct = int(np.trace(matrix))
    return Evaluation(
        n=len(codes),
        folds=folds,
        accuracy=correct / len(codes),
        accuracy_interval=wilson_interval(correct, len(codes)),
        balanced_accuracy=math.fsum(report.recall for report in present) / len(present),
        macro_f1=math.fsum(report.f1 for report in reports) / len(reports),
        log_loss=log_loss(codes, probabilities),
        ece=expected_calibration_error(codes, probabilities),
        baseline_accuracy=int(matrix.sum(axis=1).max()) / len(codes),
        per_class=reports,
        confusion=tuple(tuple(map(int, row)) for row in matrix),
    )


def confusion_matrix(codes: Codes, predicted: Codes, classes: int) -> npt.NDArray[np.int64]:
    """(K, K) counts; row: true class, column: predicted class."""
    cells = np.bincount(codes * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)


def per_class(matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> tuple[ClassReport, ...]:
    """Support, precision, recall and F1 of each class of a (K, K) confusion matrix."""
    hits, support, named = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return tuple(
        ClassReport(
            label=label,
            support=int(support[k]),
            precision=_ratio(hits[k], named[k]),
            recall=_ratio(hits[k], support[k]),
            f1=_ratio(2 * hits[k], support[k] + named[k]),
        )
        for k, label in enumerate(classes)
    )


def _ratio(above: np.int64, below: np.int64) -> float:
    return float(above) / float(below) if below else 0.0


def log_loss(codes: Codes, probabilities: Probabilities) -> float:
    """Mean negative log probability of the true class; 0 counts as the smallest step from 1 (2^-52)."""
    truth = np.take_along_axis(probabilities, codes[:, None], axis=1)[:, 0]
    return float(-np.log(np.clip(truth, np.finfo(np.float64).eps, 1.0)).mean())


def expected_calibration_error(codes: Codes, probabilities: Probabilities, bins: int = ECE_BINS) -> float:
    """Mean distance of confidence and accuracy over bins of equal width, weighted by rows.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3. Bin m takes
    confidences in ((m - 1) / bins, m / bins].
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == codes
    where = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(where, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(codes))


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """The 95% score interval of a share (Wilson 1927); honest at 0%, at 100% and for few rows."""
    share = successes / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)
