"""The document of a run, for programs. Pure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from trunkline_service.bench.load import Load, OpenLoop

if TYPE_CHECKING:
    from trunkline_service.bench.raw import Ceiling, Tried
    from trunkline_service.bench.run import Point, Result


def document(result: Result, raw: Ceiling | None) -> dict[str, Any]:
    """The figures as JSON has them: milliseconds, seconds, images a second."""
    return {
        "served": dataclasses.asdict(result.served),
        "complete": result.complete,
        "points": [_point(point, raw) for point in result.points],
        "raw": None
        if raw is None
        else {"best": _tried(raw.best), "tried": [_tried(tried) for tried in raw.tried]},
    }


def of_raw(point: Point, raw: Ceiling) -> float:
    """Served throughput as a share of the raw ceiling."""
    return point.figures.images_per_s / raw.best.images_per_s


def _point(point: Point, raw: Ceiling | None) -> dict[str, Any]:
    figures = point.figures
    return {
        **_load(point.load),
        "images_per_s": figures.images_per_s,
        "calls_per_s": figures.calls_per_s,
        "served_of_raw": None if raw is None else of_raw(point, raw),
        "generator_ms_per_call": figures.generator_ms_per_call,
        **dataclasses.asdict(figures),
    }


def _load(load: Load) -> dict[str, Any]:
    if isinstance(load, OpenLoop):
        return {"loop": "open", "rate": load.rate, "outstanding": load.outstanding}
    return {"loop": "closed", "callers": load.callers}


def _tried(tried: Tried) -> dict[str, Any]:
    return {**dataclasses.asdict(tried.plan), "images_per_s": tried.images_per_s}
