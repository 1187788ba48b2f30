"""How good a head would be with fewer labels, and from that, with twice as many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.evaluation.bootstrap import interval, row_weights
from trunkline_service.heads.evaluation.documents import read_interval
from trunkline_service.heads.evaluation.power_law import PowerLaw, fit_power_laws
from trunkline_service.heads.strict_json import Kind, check_fields

Rows: TypeAlias = NDArray[np.int64]
RowErrors: TypeAlias = Callable[[Rows, Rows], NDArray[np.float64]]
"""Given the rows to learn from and the rows to judge: (H,) the error of each of the latter, such that a
figure is 1 minus their mean."""

Verdict: TypeAlias = Literal["gain", "little", "unclear"]

SHARES = (0.125, 0.25, 0.5)
_RESAMPLES = 500
_LEAST_POINTS = 3
_LEAST_ROWS = 10
_LEAST_ROWS_A_CLASS = 2
# Half a point of the figure is little; a gain is clear where its least is a quarter of what is expected.
_LITTLE = 0.005
_CLEAR = 0.25


@dataclass(frozen=True)
class CurvePoint:
    """The figure of heads that learned from part of the rows.

    Attributes:
        rows: How many, on average over folds.
        value: The figure on held-out rows.
        interval: Its 95% bootstrap interval.
    """

    rows: float
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class LearningCurve:
    """The figure by the number of training rows, and what twice the rows would add to it.

    Attributes:
        figure: What is measured: ``accuracy``, ``R2``, ...
        points: Rising in rows; the last is what all training rows of a fold give.
        law: The power law through their errors; None for fewer than three points.
        gain: What twice the rows of the last point would add, by the law; None without one.
        gain_interval: Its 95% interval, over held-out rows drawn again. It trusts the law, which is a guess: of
            200 tries with digits and flowers, it held the true gain in 85 to 100%, by set and size.
        verdict: ``gain``: more labels help. ``little``: at most half a point. ``unclear``: the points do
            not tell.
    """

    figure: str
    points: tuple[CurvePoint, ...]
    law: PowerLaw | None
    gain: float | None
    gain_interval: tuple[float, float] | None
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        document["points"] = [vars(point) | {"interval": list(point.interval)} for point in self.points]
        document["law"] = None if self.law is None else vars(self.law).copy()
        document["gain_interval"] = None if self.gain_interval is None else list(self.gain_interval)
        return document

    @classmethod
    def from_json(cls, document: Any, where: str = "learning_curve") -> LearningCurve:
        """The curve in a JSON object.

        Raises:
            ModelFileError: Missing or unknown keys, or values of a wrong type.
        """
        check_fields(document, _KINDS, where)
        points = []
        for i, point in enumerate(document["points"]):
            check_fields(point, _POINT_KINDS, f"{where}: points[{i}]")
            pair = read_interval(point["interval"], f"{where}: points[{i}].interval")
            points.append(CurvePoint(point["rows"], point["value"], pair))
        law, pair = document["law"], document["gain_interval"]
        if law is not None:
            check_fields(law, _LAW_KINDS, f"{where}: law")
        read = {
            "points": tuple(points),
            "law": None if law is None else PowerLaw(**law),
            "gain_interval": None if pair is None else read_interval(pair, f"{where}: gain_interval"),
        }
        return cls(**(document | read))


_POINT_KINDS: dict[str, Kind] = {"rows": float, "value": float, "interval": list}
_LAW_KINDS: dict[str, Kind] = {"floor": float, "scale": float, "exponent": float}
_KINDS: dict[str, Kind] = {
    "figure": str,
    "points": list,
    "law": (dict, type(None)),
    "gain": (float, type(None)),
    "gain_interval": (list, type(None)),
    "verdict": str,
}


def learning_curve(
    strata: NDArray[np.int64],
    assigned: NDArray[np.int64],
    errors: RowErrors,
    whole: NDArray[np.float64],
    *,
    figure: str,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> LearningCurve:
    """The curve over growing shares of each fold's training rows.

    Smaller shares are part of larger ones, and all folds' held-out rows are judged at each. Shares that
    leave fewer than ten rows, or than two a class, are left out.

    Args:
        strata: (N,) from 0 on: the class of each row, of which equal shares are taken; 0 where there is none.
        assigned: (N,) the fold in which a row is held out; -1 for never.
        errors: Learns and judges; called once a fold and share.
        whole: (N,) the errors with all of a fold's training rows; NaN for rows never held out.
        figure: Name of what 1 minus the mean error is.
        shares: Rising, below 1.
        seed: Of which rows are left out.
    """
    held_out = np.flatnonzero(assigned >= 0)
    folds = np.unique(assigned[held_out])
    least = max(_LEAST_ROWS, _LEAST_ROWS_A_CLASS * len(np.unique(strata)))
    train_rows = float(np.mean([np.count_nonzero(assigned != fold) for fold in folds]))
    used = [share for share in shares if share * train_rows >= least]
    table = np.full((len(used) + 1, len(strata)), np.nan)
    table[-1] = whole
    sizes = np.zeros(len(used) + 1)
    sizes[-1] = train_rows
    for fold in folds:
        judged = np.flatnonzero(assigned == fold)
        order, places = _order(strata, np.flatnonzero(assigned != fold), seed)
        for i, share in enumerate(used):
            chosen = np.sort(order[places < share])
            sizes[i] += len(chosen) / len(folds)
            table[i, judged] = errors(chosen, judged)
    return _summary(sizes, table[:, held_out], figure)


def _order(
    strata: NDArray[np.int64], rows: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rows shuffled within their class, and where in its class, from 0 to below 1, each of them stands."""
    shuffled = np.random.default_rng(seed).permutation(rows)
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    classes = strata[order]
    starts = np.searchsorted(classes, classes)
    sizes = np.searchsorted(classes, classes, "right") - starts
    return order, (np.arange(len(order)) - starts) / sizes


def _summary(sizes: NDArray[np.float64], table: NDArray[np.float64], figure: str) -> LearningCurve:
    """The curve of per-row errors (points, held-out rows)."""
    blocks = [weights @ table.T / weights.sum(axis=1, keepdims=True) for weights in _weights(table.shape[1])]
    drawn = np.concatenate(blocks)
    means = table.mean(axis=1)
    points = []
    for i, (size, mean) in enumerate(zip(sizes, means, strict=True)):
        low, high = interval(1.0 - drawn[:, i])
        points.append(CurvePoint(float(size), float(1.0 - mean), (low, high)))
    if len(points) < _LEAST_POINTS:
        return LearningCurve(figure, tuple(points), None, None, None, "unclear")
    floor, scale, exponent = fit_power_laws(sizes, means[None])[0]
    gain = float(_gains(sizes, means[None])[0])
    low, high = interval(_gains(sizes, drawn))
    # Rows drawn again centre on what was measured, but for the law's bounds.
    low, high = min(low, gain), max(high, gain)
    return LearningCurve(
        figure=figure,
        points=tuple(points),
        law=PowerLaw(float(floor), float(scale), float(exponent)),
        gain=gain,
        gain_interval=(low, high),
        verdict=_verdict(gain, low, high),
    )


def _weights(rows: int) -> Iterator[NDArray[np.float32]]:
    for block in row_weights(rows, _RESAMPLES):
        # A resample of no row, possible where rows are few, says nothing.
        yield block[block.any(axis=1)]


def _gains(sizes: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) by how much each curve's error falls from its last point to twice the rows."""
    _, scale, exponent = fit_power_laws(sizes, errors).T
    fallen: NDArray[np.float64] = scale * (sizes[-1] ** -exponent) * (1.0 - 2.0**-exponent)
    return fallen


def _verdict(gain: float, low: float, high: float) -> Verdict:
    if high <= _LITTLE:
        return "little"
    return "gain" if gain > _LITTLE and low >= _CLEAR * gain else "unclear"
