"""The evaluation of each task, and reading the right one back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from trunkline_service.heads.evaluation.anomaly import AnomalyEvaluation
from trunkline_service.heads.evaluation.evaluate import Evaluation
from trunkline_service.heads.evaluation.multi_label import MultiLabelEvaluation
from trunkline_service.heads.evaluation.regression import RegressionEvaluation
from trunkline_service.heads.task import Task

AnyEvaluation: TypeAlias = Evaluation | MultiLabelEvaluation | RegressionEvaluation | AnomalyEvaluation

_READERS: dict[Task, Callable[[Any, str], AnyEvaluation]] = {
    "single-label": Evaluation.from_json,
    "multi-label": MultiLabelEvaluation.from_json,
    "regression": RegressionEvaluation.from_json,
    "anomaly": AnomalyEvaluation.from_json,
}


def evaluation_from_json(task: Task, document: Any, where: str = "metrics") -> AnyEvaluation:
    """The evaluation of a head of ``task`` in a JSON object.

    Raises:
        ModelFileError: Missing or unknown keys, or values of a wrong type.
    """
    return _READERS[task](document, where)
