"""The document of a run, for programs. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trunkline_service.bench.load import Load, OpenLoop
from trunkline_service.bench.pictures import position_of

if TYPE_CHECKING:
    from trunkline_service.bench.calls import Failure
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


def bad_images(failures: Mapping[str, Failure], names: Sequence[str], images_per_call: int) -> dict[str, str]:
    """The first image that was not served, by the reason; reasons that are no image's are left out."""
    return {
        status: names[position_of(first.request, first.position, images_per_call, len(names))]
        for status, first in failures.items()
        if first.position is not None
    }


def of_raw(point: Point, raw: Ceiling) -> float:
    """Served throughput as a share of the raw ceiling."""
    return point.figures.images_per_second / raw.best.images_per_second


def _point(point: Point, raw: Ceiling | None) -> dict[str, Any]:
    figures = point.figures
    return {
        **_load(point.load),
        "images_per_second": figures.images_per_second,
        "calls_per_second": figures.calls_per_second,
        "served_of_raw": None if raw is None else of_raw(point, raw),
        "generator_ms_per_call": figures.generator_ms_per_call,
        **dataclasses.asdict(figures),
    }


def _load(load: Load) -> dict[str, Any]:
    if isinstance(load, OpenLoop):
        return {"loop": "open", "rate": load.rate, "outstanding": load.outstanding}
    return {"loop": "closed", "callers": load.callers}


def _tried(tried: Tried) -> dict[str, Any]:
    return {**dataclasses.asdict(tried.plan), "images_per_second": tried.images_per_second}
