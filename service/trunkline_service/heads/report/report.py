"""All that is known of how good a head is, as one value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.evaluation.agreement import Agreement
from trunkline_service.heads.evaluation.kinds import AnyEvaluation, evaluation_from_json
from trunkline_service.heads.evaluation.learning_curve import LearningCurve
from trunkline_service.heads.evaluation.suspects import Label, Suspect
from trunkline_service.heads.report.parts import Baseline, Pairs, Reliability, Scores
from trunkline_service.heads.strict_json import Kind, check_fields, check_list, check_type, parse_object
from trunkline_service.heads.task import TASKS, Task

SCHEMA_VERSION = 1

_Part = TypeVar("_Part")


@dataclass(frozen=True)
class Report:
    """What a head's report shows. Parts that do not apply to its task, or can't be told, are None or empty.

    Attributes:
        task: What the head's outputs mean.
        classes: Their names, in order.
        evaluation: Out-of-fold figures.
        test_evaluation: Figures on the test split.
        baselines: What simple rules reach on the same rows and folds.
        reliability: Of the probabilities that are served; for tasks with classes.
        reliability_before: The same before calibration; None where none took place.
        learning_curve: The figure by the number of training rows.
        suspects: The labels that look most wrong, the most suspect first.
        estimated_errors: How many labels are wrong in all, by confident learning; ``single-label`` alone.
        agreement: The same rows by the previous version.
        pairs: Of each target of a regression.
        scores: Of an anomaly head.
        curves: What a training by epochs recorded, by name.
        notes: What was left out and what deserves a look, in sentences.
        provenance: Where the head comes from: JSON values as in its card.
    """

    task: Task
    classes: tuple[str, ...]
    evaluation: AnyEvaluation | None = None
    test_evaluation: AnyEvaluation | None = None
    baselines: tuple[Baseline, ...] = ()
    reliability: Reliability | None = None
    reliability_before: Reliability | None = None
    learning_curve: LearningCurve | None = None
    suspects: tuple[Suspect, ...] = ()
    estimated_errors: int | None = None
    agreement: Agreement | None = None
    pairs: tuple[Pairs, ...] = ()
    scores: Scores | None = None
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object, ``schema_version`` first; ``from_json`` reads it."""
        values: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        for name in _PARTS:
            values[name] = None if values[name] is None else values[name].to_json()
        for name in ("baselines", "pairs"):
            values[name] = [part.to_json() for part in values[name]]
        values["suspects"] = [_suspect_to_json(suspect) for suspect in self.suspects]
        values["curves"] = {name: list(curve) for name, curve in self.curves.items()}
        values["provenance"] = dict(self.provenance)
        for name in ("classes", "notes"):
            values[name] = list(values[name])
        return {"schema_version": SCHEMA_VERSION, **values}

    def dumps(self) -> str:
        """The text of ``report.json``."""
        return json.dumps(self.to_json(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, document: Any, where: str = "the report") -> Report:
        """The report in a JSON object.

        Raises:
            ModelFileError: Another schema version, missing or unknown keys, or values of a wrong type.
        """
        version = document.get("schema_version") if isinstance(document, dict) else None
        if isinstance(version, int) and version != SCHEMA_VERSION:
            raise ModelFileError(
                f"{where} has schema_version {version}; this Trunkline reads {SCHEMA_VERSION}. "
                "Use the Trunkline that wrote it, or fit the head again"
            )
        check_fields(document, _KINDS, where)
        task = document["task"]
        if task not in TASKS:
            raise ModelFileError(f"{where}: task is {task!r:.100}; it can be {', '.join(TASKS)}")
        read: dict[str, Any] = {name: document[name] for name in ("task", "estimated_errors", "provenance")}
        for name in ("classes", "notes"):
            check_list(document[name], str, f"{where}: {name}")
            read[name] = tuple(document[name])
        for name in ("evaluation", "test_evaluation"):
            read[name] = _optional(
                document[name], f"{where}: {name}", lambda part, at: evaluation_from_json(task, part, at)
            )
        for name in ("reliability", "reliability_before"):
            read[name] = _optional(document[name], f"{where}: {name}", Reliability.from_json)
        for name, reader in (
            ("learning_curve", LearningCurve.from_json),
            ("agreement", Agreement.from_json),
            ("scores", Scores.from_json),
        ):
            read[name] = _optional(document[name], f"{where}: {name}", reader)
        read["baselines"] = _several(document["baselines"], f"{where}: baselines", Baseline.from_json)
        read["pairs"] = _several(document["pairs"], f"{where}: pairs", Pairs.from_json)
        read["suspects"] = _several(document["suspects"], f"{where}: suspects", _suspect_from_json)
        for name, curve in document["curves"].items():
            check_list(curve, float, f"{where}: curves.{name}")
        read["curves"] = {name: tuple(curve) for name, curve in document["curves"].items()}
        return cls(**read)

    @classmethod
    def loads(cls, text: str | bytes, where: str = "the report") -> Report:
        """The report in the text of a ``report.json``.

        Raises:
            ModelFileError: It is not one.
        """
        return cls.from_json(parse_object(text, where), where)


_PARTS = (
    "evaluation",
    "test_evaluation",
    "reliability",
    "reliability_before",
    "learning_curve",
    "agreement",
    "scores",
)
_SUSPECT_KINDS: dict[str, Kind] = {
    "row": int,
    "id": str,
    "source": str,
    "label": (str, list),
    "suggested": (str, list),
    "score": float,
}
_KINDS: dict[str, Kind] = {
    "schema_version": int,
    "task": str,
    "classes": list,
    **dict.fromkeys(_PARTS, (dict, type(None))),
    "baselines": list,
    "suspects": list,
    "estimated_errors": (int, type(None)),
    "pairs": list,
    "curves": dict,
    "notes": list,
    "provenance": dict,
}


def _suspect_to_json(suspect: Suspect) -> dict[str, Any]:
    values = vars(suspect).copy()
    for name in ("label", "suggested"):
        values[name] = values[name] if isinstance(values[name], str) else list(values[name])
    return values


def _suspect_from_json(document: Any, where: str) -> Suspect:
    check_fields(document, _SUSPECT_KINDS, where)
    labels = {name: _label(document[name], f"{where}: {name}") for name in ("label", "suggested")}
    return Suspect(**(document | labels))


def _label(value: Any, where: str) -> Label:
    if isinstance(value, str):
        return value
    check_list(value, str, where)
    return tuple(value)


def _optional(value: Any, where: str, read: Callable[[Any, str], _Part]) -> _Part | None:
    return None if value is None else read(value, where)


def _several(value: Any, where: str, read: Callable[[Any, str], _Part]) -> tuple[_Part, ...]:
    check_type(value, list, where)
    return tuple(read(part, f"{where}[{i}]") for i, part in enumerate(value))
