"""The baselines of a report: simple rules on the head's own rows and folds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.evaluation import baselines as rules
from trunkline_service.heads.evaluation.agreement import paired
from trunkline_service.heads.evaluation.measures import ratio, wilson_interval
from trunkline_service.heads.evaluation.ranking import rank
from trunkline_service.heads.report.parts import Baseline
from trunkline_service.heads.training.training_set import TrainingSet

Rows = NDArray[np.int64]


def simple_rules(
    data: TrainingSet,
    assigned: Rows,
    rows: Rows,
    outputs: NDArray[Any],
    normal: NDArray[np.bool_] | None,
    *,
    centroid: bool,
) -> tuple[Baseline, ...]:
    """What simple rules reach.

    Args:
        data: What was learned from.
        assigned: (N,) the fold in which a row is held out; -1 for never.
        rows: (H,) rows to judge by, all of them held out.
        outputs: (H, K) what the head said of them.
        normal: (N,) which rows are normal, for ``anomaly``.
        centroid: Whether the nearest centroid is among the rules; not for a head that is just that.
    """
    match data.task:
        case "single-label":
            return _single_label(data, assigned, rows, outputs, centroid)
        case "multi-label":
            return _multi_label(data, assigned, rows)
        case "regression":
            values = data.values()
            means = rules.mean_values(values, assigned)
            explained = 1 - ((values - means)[rows] ** 2).mean(axis=0) / _variance(values[rows])
            return (Baseline("the mean", "R2", float(explained.mean())),)
        case "anomaly":
            assert normal is not None
            distances = rules.distance_from_mean(data.embeddings, normal, assigned)
            ranking = rank(~normal[rows], distances[rows])
            return () if ranking is None else (Baseline("distance from the mean", "AUROC", ranking.auroc),)


def _single_label(
    data: TrainingSet, assigned: Rows, rows: Rows, outputs: NDArray[Any], centroid: bool
) -> tuple[Baseline, ...]:
    codes, count = data.codes(), len(data.classes)
    right = outputs.argmax(axis=1) == codes[rows]
    answers = {"largest class": rules.majority(codes, assigned, count)}
    if centroid:
        nearest = rules.nearest_centroid(data.embeddings, codes, assigned, count)
        answers = {"nearest centroid": nearest, **answers}
    found = []
    for name, predicted in answers.items():
        also = predicted[rows] == codes[rows]
        hits = int(np.count_nonzero(also))
        interval = wilson_interval(hits, len(rows))
        found.append(
            Baseline(name, "accuracy", hits / len(rows), interval, paired(right, also).p_value),
        )
    return tuple(found)


def _multi_label(data: TrainingSet, assigned: Rows, rows: Rows) -> tuple[Baseline, ...]:
    indicator = data.indicator()
    answers = {
        "nearest centroid": rules.nearest_side(data.embeddings, indicator, assigned),
        "labels that most rows have": rules.majority_labels(indicator, assigned),
        "every label": np.ones_like(indicator),
    }
    return tuple(
        Baseline(name, "macro-F1", macro_f1(indicator[rows], given[rows])) for name, given in answers.items()
    )


def macro_f1(indicator: NDArray[np.bool_], given: NDArray[np.bool_]) -> float:
    """Mean F1 over the labels of (N, K) truths and answers."""
    hits = (indicator & given).sum(axis=0)
    return float(ratio(2 * hits, indicator.sum(axis=0) + given.sum(axis=0)).mean())


def _variance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = values.var(axis=0)
    return np.where(spread > 0, spread, 1.0)
