"""How well an anomaly head tells what is not normal, on rows that it did not learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.evaluation.bootstrap import interval, resamples_for, row_weights
from trunkline_service.heads.evaluation.documents import (
    OPTIONAL_NUMBER,
    Intervals,
    read_intervals,
    read_numbers,
    write_intervals,
)
from trunkline_service.heads.evaluation.ranking import rank
from trunkline_service.heads.strict_json import Kind, check_fields

SHARES = (0.5, 0.9, 0.95, 0.99)
RECALL = 0.95


@dataclass(frozen=True)
class AnomalyEvaluation:
    """Out-of-fold figures of an anomaly head.

    Where no row is known to be anomalous nothing can be said of how anomalies score: figures of that are
    None, and only the scores of normal rows are given.

    Attributes:
        n: Rows evaluated.
        folds: Folds of the cross-validation.
        anomalies: How many of the rows are not normal.
        auroc: The chance that an anomaly scores above a normal row.
        average_precision: Of anomalies first.
        false_positive_rate: Share of normal rows flagged by the threshold that finds 95% of the anomalies.
        quantiles: Scores of normal rows, by the share of them that is at most so high (``0.99``).
        intervals: 95% bootstrap interval of ``auroc``; empty without anomalies.
    """

    n: int
    folds: int
    anomalies: int
    auroc: float | None
    average_precision: float | None
    false_positive_rate: float | None
    quantiles: Mapping[str, float]
    intervals: Intervals = field(default_factory=dict)

    @property
    def headline(self) -> tuple[str, float]:
        """The figure that stands for all, and its name; without anomalies, what 99% of normal rows score."""
        if self.auroc is None:
            return "99% of normal scores", self.quantiles["0.99"]
        return "AUROC", self.auroc

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return document | {"quantiles": dict(self.quantiles), "intervals": write_intervals(self.intervals)}

    @classmethod
    def from_json(cls, document: Any, where: str = "metrics") -> AnomalyEvaluation:
        """The evaluation in a JSON object.

        Raises:
            ModelFileError: Missing or unknown keys, or values of a wrong type.
        """
        check_fields(document, _KINDS, where)
        quantiles = read_numbers(document["quantiles"], f"{where}: quantiles")
        check_fields(quantiles, {str(share): float for share in SHARES}, f"{where}: quantiles")
        read = {
            "quantiles": quantiles,
            "intervals": read_intervals(document["intervals"], f"{where}: intervals"),
        }
        return cls(**(document | read))


_KINDS: dict[str, Kind] = {
    "n": int,
    "folds": int,
    "anomalies": int,
    "auroc": OPTIONAL_NUMBER,
    "average_precision": OPTIONAL_NUMBER,
    "false_positive_rate": OPTIONAL_NUMBER,
    "quantiles": dict,
    "intervals": dict,
}


def evaluate_anomaly(normal: NDArray[np.bool_], scores: NDArray[Any], folds: int) -> AnomalyEvaluation:
    """All figures of scores from models that had not seen the row.

    Args:
        normal: (N,) which rows are normal; at least one.
        scores: (N,) finite; higher is further from what is normal.
        folds: Of the cross-validation.
    """
    ranking = rank(~normal, scores)
    usual = np.quantile(scores[normal].astype(np.float64), SHARES)
    return AnomalyEvaluation(
        n=len(normal),
        folds=folds,
        anomalies=int(np.count_nonzero(~normal)),
        auroc=None if ranking is None else ranking.auroc,
        average_precision=None if ranking is None else ranking.average_precision,
        false_positive_rate=None if ranking is None else _false_positive_rate(normal, scores),
        quantiles={str(share): float(score) for share, score in zip(SHARES, usual, strict=True)},
        intervals={} if ranking is None else {"auroc": _interval(normal, scores)},
    )


def _false_positive_rate(normal: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Of the highest threshold from which on at least 95% of the anomalies are found."""
    found = np.sort(scores[~normal])[::-1]
    threshold = found[int(np.ceil(RECALL * len(found))) - 1]
    return float((scores[normal] >= threshold).mean())


def _interval(normal: NDArray[np.bool_], scores: NDArray[Any]) -> tuple[float, float]:
    order = np.argsort(scores)
    ordered, usual = scores[order], normal[order]
    odd = ordered[~usual]
    below, upto = np.searchsorted(ordered, odd), np.searchsorted(ordered, odd, "right")
    aurocs = []
    for weights in row_weights(len(normal), resamples_for(len(normal))):
        drawn = weights.astype(np.float64)
        passed = np.zeros((len(drawn), len(ordered) + 1))
        np.cumsum(drawn * usual, axis=1, out=passed[:, 1:])
        mine = drawn[:, ~usual]
        above = (mine * (passed[:, below] + passed[:, upto])).sum(axis=1) / 2
        pairs = passed[:, -1] * mine.sum(axis=1)
        # A resample without anomalies, or of nothing else, has no AUROC.
        aurocs.append(np.divide(above, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))
    return interval(np.concatenate(aurocs))
