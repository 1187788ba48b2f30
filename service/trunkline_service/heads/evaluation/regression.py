"""How good a regression head is on rows that it did not learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.evaluation.bootstrap import interval, resamples_for, row_weights
from trunkline_service.heads.evaluation.documents import Intervals, read_intervals, write_intervals
from trunkline_service.heads.strict_json import Kind, check_fields


@dataclass(frozen=True)
class TargetReport:
    """One target of a regression.

    Attributes:
        target: Its name.
        n: Rows that have a value of it.
        r2: Share of its variance that the head explains; negative where the mean would have done better.
        mae: Mean absolute error, in the target's unit.
        rmse: Root of the mean squared error, in the target's unit.
        baseline_mae: The mean absolute error of always saying the mean.
    """

    target: str
    n: int
    r2: float
    mae: float
    rmse: float
    baseline_mae: float


@dataclass(frozen=True)
class RegressionEvaluation:
    """Out-of-fold figures of a regression head; means over targets, for whatever units they have.

    Attributes:
        n: Rows evaluated.
        folds: Folds of the cross-validation.
        r2: Mean over targets; of a target that never varies 1 if every value is right, else 0.
        mae: Mean over targets of the mean absolute error.
        rmse: Mean over targets of the root mean squared error.
        intervals: 95% bootstrap intervals of ``r2``, ``mae`` and ``rmse``.
        per_target: A report for each target, in the order of the head's outputs.
    """

    n: int
    folds: int
    r2: float
    mae: float
    rmse: float
    intervals: Intervals = field(default_factory=dict)
    per_target: tuple[TargetReport, ...] = ()

    @property
    def headline(self) -> tuple[str, float]:
        """The figure that stands for all, and its name."""
        return "R2", self.r2

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        document["intervals"] = write_intervals(self.intervals)
        document["per_target"] = [vars(report).copy() for report in self.per_target]
        return document

    @classmethod
    def from_json(cls, document: Any, where: str = "metrics") -> RegressionEvaluation:
        """The evaluation in a JSON object.

        Raises:
            ModelFileError: Missing or unknown keys, or values of a wrong type.
        """
        check_fields(document, _KINDS, where)
        for i, report in enumerate(document["per_target"]):
            check_fields(report, _REPORT_KINDS, f"{where}: per_target[{i}]")
        read = {
            "intervals": read_intervals(document["intervals"], f"{where}: intervals"),
            "per_target": tuple(TargetReport(**report) for report in document["per_target"]),
        }
        return cls(**(document | read))


_REPORT_KINDS: dict[str, Kind] = {
    "target": str,
    "n": int,
    "r2": float,
    "mae": float,
    "rmse": float,
    "baseline_mae": float,
}
_KINDS: dict[str, Kind] = {
    "n": int,
    "folds": int,
    "r2": float,
    "mae": float,
    "rmse": float,
    "intervals": dict,
    "per_target": list,
}


def evaluate_regression(
    values: NDArray[np.float64],
    predicted: NDArray[Any],
    targets: Sequence[str],
    folds: int,
    *,
    weights: NDArray[np.float64] | None = None,
) -> RegressionEvaluation:
    """All figures of out-of-fold predictions.

    Args:
        values: (N, M) true values; NaN where a row has none of a target, which is then left out of it.
        predicted: (N, M), finite.
        targets: M names, each with a value somewhere.
        folds: Of the cross-validation.
        weights: (N,) positive, of the rows; None for equal ones.
    """
    each = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64) / np.mean(weights)
    known = ~np.isnan(values)
    errors = np.where(known, predicted - values, 0.0).astype(np.float64)
    reports = tuple(
        _report(target, values[mine, m], errors[mine, m], each[mine])
        for m, (target, mine) in enumerate(zip(targets, known.T, strict=True))
    )
    return RegressionEvaluation(
        n=len(values),
        folds=folds,
        r2=math.fsum(report.r2 for report in reports) / len(reports),
        mae=math.fsum(report.mae for report in reports) / len(reports),
        rmse=math.fsum(report.rmse for report in reports) / len(reports),
        intervals=_intervals(values, errors, known, each),
        per_target=reports,
    )


def _report(
    target: str, values: NDArray[np.float64], errors: NDArray[np.float64], weights: NDArray[np.float64]
) -> TargetReport:
    squares = float(np.average(errors**2, weights=weights))
    deviations = values - np.average(values, weights=weights)
    return TargetReport(
        target=target,
        n=len(values),
        r2=float(_explained(np.array(squares), np.array(np.average(deviations**2, weights=weights)))),
        mae=float(np.average(np.abs(errors), weights=weights)),
        rmse=math.sqrt(squares),
        baseline_mae=float(np.average(np.abs(deviations), weights=weights)),
    )


def _explained(squares: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """R2 from mean squared error and variance."""
    varies = variance > 0
    return np.where(varies, 1.0 - squares / np.where(varies, variance, 1.0), np.where(squares > 0, 0.0, 1.0))


def _intervals(
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    known: NDArray[np.bool_],
    each: NDArray[np.float64],
) -> Intervals:
    n, count = values.shape
    # Around the mean, so that a variance from sums of squares loses no digits in float32.
    centres = np.nanmean(values, axis=0)
    scales = np.nanstd(values, axis=0)
    scales = np.where(scales > 0, scales, 1.0)
    deviations = np.where(known, (values - centres) / scales, 0.0).astype(np.float32)
    scaled = (errors / scales).astype(np.float32)
    ones = known.astype(np.float32)
    parts: dict[str, list[NDArray[np.float64]]] = {"r2": [], "mae": [], "rmse": []}
    for drawn in row_weights(n, resamples_for(n * (1 + count // 32))):
        weights = drawn * each.astype(np.float32)
        rows = (weights @ ones).astype(np.float64)
        # A target of which a resample drew no row has no figure in it.
        rows[rows == 0] = np.nan
        squares = weights @ scaled**2 / rows
        means = weights @ deviations / rows
        variance = np.maximum(weights @ deviations**2 / rows - means**2, 0.0)
        parts["r2"].append(_target_mean(_explained(squares, variance)))
        parts["mae"].append(_target_mean(weights @ np.abs(scaled) / rows * scales))
        parts["rmse"].append(_target_mean(np.sqrt(squares) * scales))
    return {name: interval(np.concatenate(figures)) for name, figures in parts.items()}


def _target_mean(figures: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) means over targets, of those that have a figure; NaN where none has."""
    there = ~np.isnan(figures)
    counts = there.sum(axis=1)
    sums = np.where(there, figures, 0.0).sum(axis=1)
    means = np.full(len(figures), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means
