"""A head beside its previous version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.evaluation.agreement import Agreement, changes, correlation, paired
from trunkline_service.heads.evaluation.ranking import rank
from trunkline_service.heads.report.simple_rules import macro_f1
from trunkline_service.heads.training.training_set import TrainingSet

Outputs = NDArray[np.float32]
_SHOWN_LABELS = 3


@dataclass(frozen=True)
class PreviousHead:
    """The version before.

    Attributes:
        card: All about it.
        outputs: (N, dim) float32 embeddings to its (N, K) outputs, in the order of ``card.classes``.
    """

    card: HeadCard
    outputs: Callable[[NDArray[np.float32]], Outputs]


def is_comparable(data: TrainingSet, previous: PreviousHead) -> str | None:
    """Why the two can't be compared on these rows, in a sentence; None where they can."""
    card = previous.card
    if card.space_id != data.space_id:
        return f"not compared with {card.ref}: it takes embeddings of another space, {card.space_id}"
    if card.task != data.task:
        return f"not compared with {card.ref}: its task is {card.task}"
    if data.task == "regression" and card.classes != data.targets:
        return f"not compared with {card.ref}: its targets are {', '.join(card.classes)}"
    return None


def compare(
    data: TrainingSet,
    rows: NDArray[np.int64],
    outputs: Outputs,
    previous: PreviousHead,
    *,
    held_out: bool,
    normal: NDArray[np.bool_] | None = None,
) -> Agreement:
    """Both versions on the same rows.

    Args:
        data: The rows.
        rows: (H,) which of them to judge by.
        outputs: (H, K) what the head said of them.
        previous: Of the same space and task.
        held_out: Whether the previous version had not seen them either.
        normal: (N,) which rows are normal, for ``anomaly``.
    """
    said = previous.outputs(data.embeddings[rows]).reshape(len(rows), -1)
    common: dict[str, Any] = {"previous": previous.card.ref, "rows": len(rows), "held_out": held_out}
    match data.task:
        case "single-label":
            return _single_label(data, rows, outputs, said, previous.card.classes, common)
        case "multi-label":
            return _multi_label(data, rows, outputs, said, previous.card.classes, common)
        case "regression":
            values = data.values()[rows]
            before, now = _r2(values, said), _r2(values, outputs)
            agreed = correlation(said, outputs)
            return Agreement(figure="R2", previous_value=before, value=now, agreement=agreed, **common)
        case "anomaly":
            assert normal is not None
            aurocs = [_auroc(normal[rows], scores[:, 0]) for scores in (said, outputs)]
            agreed = correlation(said[:, :1], outputs[:, :1])
            return Agreement(
                figure="AUROC", previous_value=aurocs[0], value=aurocs[1], agreement=agreed, **common
            )


def _single_label(
    data: TrainingSet,
    rows: NDArray[np.int64],
    outputs: Outputs,
    said: Outputs,
    classes: Sequence[str],
    common: dict[str, Any],
) -> Agreement:
    before = [classes[k] for k in said.argmax(axis=1).tolist()]
    now = [data.classes[k] for k in outputs.argmax(axis=1).tolist()]
    truth = [data.labels[row] for row in rows.tolist()]
    right_before = np.array([a == b for a, b in zip(before, truth, strict=True)])
    right_now = np.array([a == b for a, b in zip(now, truth, strict=True)])
    counted = paired(right_before, right_now)
    return Agreement(
        figure="accuracy",
        previous_value=float(right_before.mean()),
        value=float(right_now.mean()),
        agreement=float(np.mean([a == b for a, b in zip(before, now, strict=True)])),
        only_previous=counted.only_first,
        only_this=counted.only_second,
        p_value=counted.p_value,
        changed=changes(before, now),
        **common,
    )


def _multi_label(
    data: TrainingSet,
    rows: NDArray[np.int64],
    outputs: Outputs,
    said: Outputs,
    classes: Sequence[str],
    common: dict[str, Any],
) -> Agreement:
    position = {name: k for k, name in enumerate(classes)}
    # A label that the previous version did not know it never gave.
    before = np.zeros(outputs.shape, np.bool_)
    for k, name in enumerate(data.classes):
        if name in position:
            before[:, k] = said[:, position[name]] >= 0.5
    now = outputs >= 0.5
    indicator = data.indicator()[rows]
    return Agreement(
        figure="macro-F1",
        previous_value=macro_f1(indicator, before),
        value=macro_f1(indicator, now),
        agreement=float((before == now).all(axis=1).mean()),
        changed=changes(_written(before, data.classes), _written(now, data.classes)),
        **common,
    )


def _written(given: NDArray[np.bool_], classes: Sequence[str]) -> list[str]:
    """Each row's labels as one text."""
    texts = []
    for row in given:
        names = [classes[k] for k in np.flatnonzero(row).tolist()]
        more = len(names) - _SHOWN_LABELS
        texts.append(", ".join(names[:_SHOWN_LABELS]) + (f" and {more} more" if more > 0 else "") or "none")
    return texts


def _auroc(normal: NDArray[np.bool_], scores: Outputs) -> float | None:
    ranking = rank(~normal, scores)
    return None if ranking is None else ranking.auroc


def _r2(values: NDArray[np.float64], said: NDArray[Any]) -> float:
    spread = values.var(axis=0)
    return float((1 - ((said - values) ** 2).mean(axis=0) / np.where(spread > 0, spread, 1.0)).mean())
