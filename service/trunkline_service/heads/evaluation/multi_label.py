"""How good a multi-label head is on rows that it did not learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.evaluation.bootstrap import interval, resamples_for, row_weights
from trunkline_service.heads.evaluation.documents import (
    OPTIONAL_NUMBER,
    Intervals,
    read_intervals,
    write_intervals,
)
from trunkline_service.heads.evaluation.measures import binary_log_loss, calibration_error, ratio
from trunkline_service.heads.evaluation.ranking import rank_labels
from trunkline_service.heads.strict_json import Kind, check_fields

THRESHOLD = 0.5


@dataclass(frozen=True)
class LabelReport:
    """One label of a multi-label task.

    Attributes:
        label: Its name.
        support: Rows that have it.
        precision: Share of the rows given it that have it.
        recall: Share of the rows having it that were given it.
        f1: Their harmonic mean.
        auroc: Of its probability; None where every row has it, or none.
        average_precision: Likewise.
    """

    label: str
    support: int
    precision: float
    recall: float
    f1: float
    auroc: float | None
    average_precision: float | None


@dataclass(frozen=True)
class MultiLabelEvaluation:
    """Out-of-fold figures of a multi-label head; a label is given from a probability of 0.5 on.

    Attributes:
        n: Rows evaluated.
        folds: Folds of the cross-validation.
        macro_f1: Mean F1 over labels.
        micro_f1: F1 of all (row, label) decisions together.
        exact_match: Share of rows whose labels were all right.
        hamming_loss: Share of (row, label) decisions that were wrong.
        log_loss: Mean negative log probability of what was true, over all decisions, in nats.
        ece: Expected calibration error of all decisions over 15 bins of equal width.
        ece_before: The same before calibration; None where none took place.
        auroc: Mean over labels; None where no label tells rows apart, and beyond 2^28 probabilities.
        average_precision: Mean over labels ("mAP"); None likewise.
        baseline_macro_f1: Of giving every label to every row.
        intervals: 95% bootstrap intervals of ``macro_f1``, ``micro_f1`` and ``exact_match``.
        per_class: A report for each label, in the order of the head's outputs.
    """

    n: int
    folds: int
    macro_f1: float
    micro_f1: float
    exact_match: float
    hamming_loss: float
    log_loss: float
    ece: float
    ece_before: float | None
    auroc: float | None
    average_precision: float | None
    baseline_macro_f1: float
    intervals: Intervals = field(default_factory=dict)
    per_class: tuple[LabelReport, ...] = ()

    @property
    def headline(self) -> tuple[str, float]:
        """The figure that stands for all, and its name."""
        return "macro-F1", self.macro_f1

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        document["intervals"] = write_intervals(self.intervals)
        document["per_class"] = [vars(report).copy() for report in self.per_class]
        return document

    @classmethod
    def from_json(cls, document: Any, where: str = "metrics") -> MultiLabelEvaluation:
        """The evaluation in a JSON object.

        Raises:
            ModelFileError: Missing or unknown keys, or values of a wrong type.
        """
        check_fields(document, _KINDS, where)
        for i, report in enumerate(document["per_class"]):
            check_fields(report, _REPORT_KINDS, f"{where}: per_class[{i}]")
        read = {
            "intervals": read_intervals(document["intervals"], f"{where}: intervals"),
            "per_class": tuple(LabelReport(**report) for report in document["per_class"]),
        }
        return cls(**(document | read))


_REPORT_KINDS: dict[str, Kind] = {
    "label": str,
    "support": int,
    "precision": float,
    "recall": float,
    "f1": float,
    "auroc": OPTIONAL_NUMBER,
    "average_precision": OPTIONAL_NUMBER,
}
_KINDS: dict[str, Kind] = {
    "n": int,
    "folds": int,
    "macro_f1": float,
    "micro_f1": float,
    "exact_match": float,
    "hamming_loss": float,
    "log_loss": float,
    "ece": float,
    "ece_before": OPTIONAL_NUMBER,
    "auroc": OPTIONAL_NUMBER,
    "average_precision": OPTIONAL_NUMBER,
    "baseline_macro_f1": float,
    "intervals": dict,
    "per_class": list,
}


def evaluate_multi_label(
    indicator: NDArray[np.bool_],
    probabilities: NDArray[Any],
    classes: Sequence[str],
    folds: int,
    *,
    uncalibrated: NDArray[Any] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> MultiLabelEvaluation:
    """All figures of out-of-fold probabilities of labels that do not exclude one another.

    Args:
        indicator: (N, K) which rows have which label, N > 0.
        probabilities: (N, K), finite, each from 0 to 1.
        classes: K labels.
        folds: Of the cross-validation.
        uncalibrated: (N, K) the same before calibration, for ``ece_before``.
        weights: (N,) positive, of the rows; None for equal ones. ``support`` counts rows all the same.
    """
    n, count = indicator.shape
    given = probabilities >= THRESHOLD
    # Of mean 1, so that sums of them are like counts of rows.
    each = None if weights is None else np.asarray(weights, np.float64) / np.mean(weights)
    hits, support, named = (_sums(which, each) for which in (indicator & given, indicator, given))
    rows = np.count_nonzero(indicator, axis=0)
    wrong = np.average((indicator != given).mean(axis=1), weights=each)
    rankings = rank_labels(indicator, probabilities, each)
    precision, recall, f1 = ratio(hits, named), ratio(hits, support), ratio(2 * hits, support + named)
    reports = tuple(
        LabelReport(
            label=label,
            support=int(rows[k]),
            precision=float(precision[k]),
            recall=float(recall[k]),
            f1=float(f1[k]),
            auroc=None if (ranking := rankings[k]) is None else ranking.auroc,
            average_precision=None if ranking is None else ranking.average_precision,
        )
        for k, label in enumerate(classes)
    )
    return MultiLabelEvaluation(
        n=n,
        folds=folds,
        macro_f1=math.fsum(f1) / count,
        micro_f1=float(ratio(2 * hits.sum(), support.sum() + named.sum())),
        exact_match=float(np.average((indicator == given).all(axis=1), weights=each)),
        hamming_loss=float(wrong),
        log_loss=binary_log_loss(indicator, probabilities, each),
        ece=_calibration_error(indicator, probabilities, each),
        ece_before=None if uncalibrated is None else _calibration_error(indicator, uncalibrated, each),
        auroc=_mean([ranking.auroc for ranking in rankings if ranking]),
        average_precision=_mean([ranking.average_precision for ranking in rankings if ranking]),
        baseline_macro_f1=math.fsum(ratio(2 * support, support + n)) / count,
        intervals=_intervals(indicator, given, each),
        per_class=reports,
    )


def _sums(which: NDArray[np.bool_], weights: NDArray[np.float64] | None) -> NDArray[Any]:
    """(K,) how many rows, or their weight."""
    return np.count_nonzero(which, axis=0) if weights is None else weights @ which


def _calibration_error(
    indicator: NDArray[np.bool_], probabilities: NDArray[Any], weights: NDArray[np.float64] | None
) -> float:
    """Of the probability that each decision was given, right or wrong."""
    given = probabilities >= THRESHOLD
    confidence = np.where(given, probabilities, 1.0 - probabilities)
    each = None if weights is None else np.repeat(weights, indicator.shape[1])
    return calibration_error(confidence.ravel(), (given == indicator).ravel(), each)


def _intervals(
    indicator: NDArray[np.bool_], given: NDArray[np.bool_], each: NDArray[np.float64] | None
) -> Intervals:
    n, count = indicator.shape
    hits = (indicator & given).astype(np.float32)
    both = indicator.astype(np.float32) + given.astype(np.float32)
    exact = (indicator == given).all(axis=1).astype(np.float32)
    never = int(np.count_nonzero(~both.any(axis=0)))
    # A matrix product sums some thirty numbers in the time that one is drawn.
    resamples = resamples_for(n * (1 + count // 32))
    macro, micro, match = [], [], []
    for drawn in row_weights(n, resamples):
        weights = drawn if each is None else drawn * each.astype(np.float32)
        drawn_hits, drawn_both = weights @ hits, weights @ both
        seen = (drawn_both > 0).sum(axis=1) + never
        macro.append(ratio(ratio(2 * drawn_hits, drawn_both).sum(axis=1), seen))
        micro.append(ratio(2 * drawn_hits.sum(axis=1), drawn_both.sum(axis=1)))
        match.append(ratio(weights @ exact, weights.sum(axis=1)))
    return {
        "macro_f1": interval(np.concatenate(macro)),
        "micro_f1": interval(np.concatenate(micro)),
        "exact_match": interval(np.concatenate(match)),
    }


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
