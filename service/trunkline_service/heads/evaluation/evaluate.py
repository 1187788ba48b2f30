"""How good a single-label head is on rows that it did not learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.evaluation.bootstrap import class_intervals
from trunkline_service.heads.evaluation.documents import (
    OPTIONAL_NUMBER,
    Intervals,
    read_interval,
    read_intervals,
    write_intervals,
)
from trunkline_service.heads.evaluation.measures import (
    ECE_BINS,
    Codes,
    Weights,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    ratio,
    wilson_interval,
)
from trunkline_service.heads.evaluation.ranking import rank_classes
from trunkline_service.heads.strict_json import Kind, check_fields, check_list

__all__ = [
    "ECE_BINS",
    "ClassReport",
    "Evaluation",
    "confusion_matrix",
    "evaluate",
    "expected_calibration_error",
    "log_loss",
    "wilson_interval",
]

# Beyond so many classes a card would hold tens of thousands of zeros: only mistakes are kept, the
# commonest ones.
_WHOLE_CONFUSION = 200
_KEPT_MISTAKES = 1000


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
    """Out-of-fold figures of a single-label head.

    Rows may have weights; every figure but ``n``, ``support`` and the counts of confusions is then a
    weighted one.

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
        confusion: K rows (true) of K counts (predicted); empty beyond 200 classes.
        ece_before: The calibration error before calibration; None where none took place.
        auroc: Of two classes, that of the second; else the mean over classes, each against all others
            (classes that no row has are left out). None in heads of before, and beyond 2^28 probabilities.
        average_precision: Mean over classes, each against all others; None like ``auroc``.
        intervals: 95% bootstrap intervals of ``accuracy``, ``balanced_accuracy`` and ``macro_f1``; empty in
            heads of before.
        confused: Beyond 200 classes, the 1,000 commonest mistakes as (true, predicted, rows), by position
            among the classes, the commonest first; empty otherwise.
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
    ece_before: float | None = None
    auroc: float | None = None
    average_precision: float | None = None
    intervals: Intervals = field(default_factory=dict)
    confused: tuple[tuple[int, int, int], ...] = ()

    @property
    def headline(self) -> tuple[str, float]:
        """The figure that stands for all, and its name."""
        return "accuracy", self.accuracy

    def mistakes(self) -> list[tuple[str, str, int]]:
        """(true label, predicted label, rows) of classes that were mixed up, the commonest first."""
        pairs = self.confused or _mistakes(self.confusion)
        labels = [report.label for report in self.per_class]
        return [(labels[true], labels[predicted], count) for true, predicted, count in pairs]

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        document["accuracy_interval"] = list(self.accuracy_interval)
        document["per_class"] = [vars(report).copy() for report in self.per_class]
        document["confusion"] = [list(row) for row in self.confusion]
        document["intervals"] = write_intervals(self.intervals)
        document["confused"] = [list(pair) for pair in self.confused]
        return document

    @classmethod
    def from_json(cls, document: Any, where: str = "metrics") -> Evaluation:
        """The evaluation in a JSON object.

        Raises:
            ModelFileError: Missing or unknown keys, or values of a wrong type.
        """
        if isinstance(document, dict):
            document = _LATER | document
        check_fields(document, _EVALUATION_KINDS, where)
        for i, report in enumerate(document["per_class"]):
            check_fields(report, _REPORT_KINDS, f"{where}: per_class[{i}]")
        for name in ("confusion", "confused"):
            for i, row in enumerate(document[name]):
                check_list(row, int, f"{where}: {name}[{i}]")
        _check_mistakes(document["confused"], len(document["per_class"]), where)
        read = {
            "accuracy_interval": read_interval(document["accuracy_interval"], f"{where}: accuracy_interval"),
            "per_class": tuple(ClassReport(**report) for report in document["per_class"]),
            "confusion": tuple(tuple(row) for row in document["confusion"]),
            "confused": tuple(tuple(pair) for pair in document["confused"]),
            "intervals": read_intervals(document["intervals"], f"{where}: intervals"),
        }
        return cls(**(document | read))


def _check_mistakes(confused: list[list[int]], classes: int, where: str) -> None:
    for i, pair in enumerate(confused):
        if len(pair) != 3 or not all(0 <= code < classes for code in pair[:2]):
            raise ModelFileError(
                f"{where}: confused[{i}] must be two classes and a count, and is {pair!r:.100}"
            )


_REPORT_KINDS: dict[str, Kind] = {
    "label": str,
    "support": int,
    "precision": float,
    "recall": float,
    "f1": float,
}
# What heads of before lack.
_LATER: dict[str, Any] = {
    "ece_before": None,
    "auroc": None,
    "average_precision": None,
    "intervals": {},
    "confused": [],
}
_EVALUATION_KINDS: dict[str, Kind] = {
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
    "ece_before": OPTIONAL_NUMBER,
    "auroc": OPTIONAL_NUMBER,
    "average_precision": OPTIONAL_NUMBER,
    "intervals": dict,
    "confused": list,
}


def evaluate(
    codes: Codes,
    probabilities: NDArray[Any],
    classes: Sequence[str],
    folds: int,
    *,
    uncalibrated: NDArray[Any] | None = None,
    weights: Weights = None,
) -> Evaluation:
    """All figures of out-of-fold probabilities.

    Args:
        codes: (N,) true classes, N > 0.
        probabilities: (N, K), finite, rows summing to 1: float32 or float64.
        classes: K labels.
        folds: Of the cross-validation.
        uncalibrated: (N, K) the same before calibration, for ``ece_before``.
        weights: (N,) positive, of the rows; None for equal ones.
    """
    count = len(classes)
    predicted = probabilities.argmax(axis=1)
    right = codes == predicted
    each = None if weights is None else np.asarray(weights, np.float64)
    hits = np.bincount(codes[right], weights=None if each is None else each[right], minlength=count)
    support = np.bincount(codes, weights=each, minlength=count)
    named = np.bincount(predicted, weights=each, minlength=count)
    recall, f1 = ratio(hits, support), ratio(2 * hits, support + named)
    total = float(support.sum())
    rankings = [ranking for ranking in rank_classes(codes, probabilities, each) if ranking is not None]
    # Of two classes, the second's: the first's is the same but for rounding.
    aurocs = [ranking.auroc for ranking in (rankings[1:] if count == 2 else rankings)]
    matrix, confused = _confusion(codes, predicted, count)
    return Evaluation(
        n=len(codes),
        folds=folds,
        accuracy=float(hits.sum()) / total,
        accuracy_interval=_accuracy_interval(right, each),
        balanced_accuracy=math.fsum(recall) / int(np.count_nonzero(support)),
        macro_f1=math.fsum(f1) / count,
        log_loss=log_loss(codes, probabilities, each),
        ece=expected_calibration_error(codes, probabilities, each),
        baseline_accuracy=float(support.max()) / total,
        per_class=_reports(classes, codes, ratio(hits, named), recall, f1),
        confusion=matrix,
        ece_before=None if uncalibrated is None else expected_calibration_error(codes, uncalibrated, each),
        auroc=_mean(aurocs),
        average_precision=_mean([ranking.average_precision for ranking in rankings]),
        intervals=class_intervals(codes, predicted, count, each),
        confused=confused,
    )


def _accuracy_interval(right: NDArray[np.bool_], weights: Weights) -> tuple[float, float]:
    if weights is None:
        return wilson_interval(int(np.count_nonzero(right)), len(right))
    # As many rows of equal weight as would vary as much (Kish 1965).
    rows = float(weights.sum() ** 2 / (weights**2).sum())
    return wilson_interval(rows * float(weights[right].sum() / weights.sum()), rows)


def _reports(
    classes: Sequence[str],
    codes: Codes,
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
    f1: NDArray[np.float64],
) -> tuple[ClassReport, ...]:
    rows = np.bincount(codes, minlength=len(classes)).tolist()
    columns = zip(classes, rows, precision.tolist(), recall.tolist(), f1.tolist(), strict=True)
    return tuple(ClassReport(*values) for values in columns)


def _confusion(
    codes: Codes, predicted: Codes, classes: int
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, int, int], ...]]:
    """The matrix, or beyond its limit the commonest mistakes."""
    if classes <= _WHOLE_CONFUSION:
        matrix = confusion_matrix(codes, predicted, classes)
        return tuple(tuple(row) for row in matrix.tolist()), ()
    wrong = codes != predicted
    cells, counts = np.unique(codes[wrong] * classes + predicted[wrong], return_counts=True)
    top = np.argsort(-counts, kind="stable")[:_KEPT_MISTAKES]
    true, taken_for = np.divmod(cells[top], classes)
    kept = zip(true.tolist(), taken_for.tolist(), counts[top].tolist(), strict=True)
    return (), tuple(kept)


def _mistakes(confusion: tuple[tuple[int, ...], ...]) -> list[tuple[int, int, int]]:
    pairs = [
        (true, predicted, count)
        for true, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return sorted(pairs, key=lambda pair: -pair[2])


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
