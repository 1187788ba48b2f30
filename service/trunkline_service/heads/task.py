"""What a head answers: the meaning of its outputs, whatever kind computed them."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Task: TypeAlias = Literal["single-label", "multi-label", "regression", "anomaly"]
"""``single-label``: K probabilities that sum to 1. ``multi-label``: K probabilities, each on its own.
``regression``: one value a target. ``anomaly``: one score; higher is further from what is normal."""

TASKS: tuple[Task, ...] = get_args(Task)

# What each task's output is called in head.onnx.
OUTPUTS: dict[Task, str] = {
    "single-label": "probabilities",
    "multi-label": "probabilities",
    "regression": "values",
    "anomaly": "score",
}
