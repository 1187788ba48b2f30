"""Whether two heads say the same of the same items. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import FailedPrecondition
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.evaluation.regression import RegressionEvaluation

_LIKELY = 0.5
_ANOMALOUS = "0.99"


def agree(
    one: HeadCard, ours: NDArray[np.float32], other: HeadCard, theirs: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """(N,) bool: on which items two heads say the same.

    Single-label heads agree on the most probable class; multi-label heads on the set of classes of at
    least 0.5; regressions where no value differs by more than the first head's own out-of-fold mean
    absolute error; anomaly heads on whether an item is further than 99% of the normal ones.

    Args:
        one: The first head, the one that counts.
        ours: Its outputs, (N, K); finite.
        other: The second head.
        theirs: Its outputs, (N, L); finite.

    Raises:
        FailedPrecondition: Heads of different tasks, or regressions of different targets.
    """
    if one.task != other.task:
        raise FailedPrecondition(
            f"head {one.ref} is {one.task} and {other.ref} is {other.task}; they can't be compared"
        )
    match one.task:
        case "single-label":
            same = _names(one)[ours.argmax(axis=1)] == _names(other)[theirs.argmax(axis=1)]
        case "multi-label":
            same = _same_sets(one, ours, other, theirs)
        case "regression":
            if one.classes != other.classes:
                raise FailedPrecondition(
                    f"head {one.ref} gives {', '.join(one.classes)} and {other.ref} gives {', '.join(other.classes)}; "
                    "they can't be compared"
                )
            same = (np.abs(ours - theirs) <= _tolerance(one)).all(axis=1)
        case _:
            same = (ours[:, 0] > _bound(one)) == (theirs[:, 0] > _bound(other))
    return np.asarray(same, np.bool_)


def _names(card: HeadCard) -> NDArray[np.object_]:
    return np.array(card.classes, dtype=object)


def _same_sets(
    one: HeadCard, ours: NDArray[np.float32], other: HeadCard, theirs: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """By name: a class that only one of them knows is one that the other never names."""
    column = {name: position for position, name in enumerate(dict.fromkeys((*one.classes, *other.classes)))}

    def spread(card: HeadCard, outputs: NDArray[np.float32]) -> NDArray[np.bool_]:
        wide = np.zeros((len(outputs), len(column)), np.bool_)
        wide[:, [column[name] for name in card.classes]] = outputs >= _LIKELY
        return wide

    same: NDArray[np.bool_] = (spread(one, ours) == spread(other, theirs)).all(axis=1)
    return same


def _tolerance(card: HeadCard) -> NDArray[np.float64]:
    """(K,) what the head is known to be wrong by."""
    if not isinstance(card.metrics, RegressionEvaluation):
        return np.zeros(len(card.classes))
    known = {report.target: report.mae for report in card.metrics.per_target}
    return np.array([known.get(target, card.metrics.mae) for target in card.classes])


def _bound(card: HeadCard) -> float:
    return card.distance_quantiles.get(_ANOMALOUS, np.inf)
