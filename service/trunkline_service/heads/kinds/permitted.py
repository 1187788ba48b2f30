"""What a kind of head can do: refusals that name the kind and say what to do instead."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.options import FitOptions, Transform
from trunkline_service.heads.task import Task

_LEARNS: dict[Task, str] = {
    "single-label": "logistic, ridge, centroid, knn and mlp learn one label a row",
    "multi-label": "logistic, ridge and mlp learn several labels a row",
    "regression": "ridge and mlp learn values",
    "anomaly": "anomaly learns what is normal",
}


def check_permitted(
    kind: str,
    task: Task,
    options: FitOptions,
    *,
    tasks: Sequence[Task],
    transforms: Sequence[Transform],
    grid: bool = True,
    balanced: Sequence[Task] = ("single-label",),
    float64: bool = True,
) -> None:
    """Checks a task and options against what a kind can do.

    Args:
        kind: Its name.
        task: Of the data.
        options: Of the fit.
        tasks: Those it learns.
        transforms: Those it takes; the first is its own choice.
        grid: Whether it has a hyper-parameter to choose.
        balanced: Tasks for which it can weigh all classes alike.
        float64: Whether it keeps what matters in float64 anyway.

    Raises:
        InvalidArgument: It can't; says what can.
    """
    if task not in tasks:
        raise InvalidArgument(f"a {kind} head can't learn {task} data; {_LEARNS[task]}")
    if options.transform is not None and options.transform not in transforms:
        known = " or ".join(transforms)
        raise InvalidArgument(
            f"a {kind} head takes transform {known}, and {options.transform!r} was asked for"
        )
    if options.grid is not None and not grid:
        raise InvalidArgument(f"a {kind} head has nothing to choose from a grid; leave grid out")
    if options.class_weight == "balanced" and task not in balanced:
        raise InvalidArgument(f"a {kind} head can't balance classes for {task} data; leave class_weight out")
    if options.normal is not None and kind != "anomaly":
        raise InvalidArgument(f"normal is for anomaly heads, and this is a {kind} head; leave normal out")
    if options.precision == "float64" and not float64:
        raise InvalidArgument(f"a {kind} head is fitted in float32; leave precision out")
    if options.device != "cpu":
        raise InvalidArgument(f"a {kind} head is fitted on the cpu; leave device {options.device!r} out")
