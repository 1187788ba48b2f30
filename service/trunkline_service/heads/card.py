"""The card of a head: ``card.json`` beside ``head.onnx``, which says all about it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.evaluation.kinds import AnyEvaluation, evaluation_from_json
from trunkline_service.heads.fitted import Convergence, FittedHead
from trunkline_service.heads.strict_json import LARGEST, Kind, check_fields, check_list, parse_object
from trunkline_service.heads.task import TASKS, Task
from trunkline_service.names import is_name

SCHEMA_VERSION = 2
PRETRAINED = "pretrained"
_LEAST_CLASSES = {"single-label": 2, "multi-label": 1, "regression": 1}
_LARGEST_FLOAT = sys.float_info.max
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HeadCard:
    """Everything about one version of a head.

    Attributes:
        name: Of the head.
        version: A positive integer.
        kind: How it was fitted, e.g. ``logistic``; or ``pretrained``, a network's own last layer.
        task: What its outputs mean.
        space_id: The space whose embeddings it takes.
        dim: Their length.
        model: ``name@version`` of the model that embedded the training rows.
        decode: How the images of the training rows were decoded.
        classes: K names in the order of the outputs: labels, or for ``regression`` the targets; empty for
            ``anomaly``.
        target: The column that was learned.
        collection: Where the training rows came from; empty for a pretrained classifier.
        collection_version: Its version then.
        training_hash: SHA-256 over the training embeddings and labels, or over a pretrained classifier.
        rows: How many those were.
        hyper_parameters: What was chosen, from what, and how.
        temperature: What calibration divided the logits by; already inside ``head.onnx``.
        convergence: How the solver ended.
        metrics: Out-of-fold evaluation; None for a pretrained classifier, which no rows here were used for.
        test_metrics: On the test split, which nothing was chosen by; None without one.
        distance_quantiles: Share of held-out rows (such as ``0.99``) to the distance below which they lie.
        curves: What a training by epochs recorded, by name.
        notes: What was left out and what deserves a look, in sentences.
        head_sha256: Of the bytes of ``head.onnx``.
        created_at: ISO 8601, with offset.
        trunkline_version: Of the program that fitted it.
        group: The column whose equal values stayed on one side of every split; empty for none.
        test_split: Value of ``split`` of the rows that it was tested on.
    """

    name: str
    version: int
    kind: str
    task: Task
    space_id: str
    dim: int
    model: str
    decode: str
    classes: tuple[str, ...]
    target: str
    collection: str
    collection_version: int
    training_hash: str
    rows: int
    hyper_parameters: Mapping[str, Any]
    temperature: float
    convergence: Convergence
    metrics: AnyEvaluation | None
    test_metrics: AnyEvaluation | None
    distance_quantiles: Mapping[str, float]
    curves: Mapping[str, tuple[float, ...]]
    notes: tuple[str, ...]
    head_sha256: str
    created_at: str
    trunkline_version: str
    group: str = ""
    test_split: str = "test"

    @property
    def ref(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def to_json(self) -> dict[str, Any]:
        """A JSON object, ``schema_version`` first; ``from_json`` reads it."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["classes"], values["notes"] = list(self.classes), list(self.notes)
        values["hyper_parameters"] = dict(self.hyper_parameters)
        values["convergence"] = vars(self.convergence).copy()
        for key in ("metrics", "test_metrics"):
            values[key] = None if values[key] is None else values[key].to_json()
        values["distance_quantiles"] = dict(self.distance_quantiles)
        values["curves"] = {name: list(curve) for name, curve in self.curves.items()}
        return {"schema_version": SCHEMA_VERSION, **values}

    @classmethod
    def of(
        cls,
        fitted: FittedHead,
        name: str,
        version: int,
        *,
        head_sha256: str,
        created_at: datetime,
        trunkline_version: str,
    ) -> HeadCard:
        """The card of a fitted head that becomes ``name@version``; the arguments are its other fields."""
        return cls(
            name=name,
            version=version,
            kind=fitted.kind,
            task=fitted.task,
            space_id=fitted.space_id,
            dim=fitted.dim,
            model=fitted.model,
            decode=fitted.decode,
            classes=fitted.classes,
            target=fitted.target,
            collection=fitted.collection,
            collection_version=fitted.collection_version,
            training_hash=fitted.training_hash,
            rows=fitted.rows,
            hyper_parameters=fitted.hyper_parameters,
            temperature=fitted.temperature,
            convergence=fitted.convergence,
            metrics=fitted.evaluation,
            test_metrics=fitted.test_evaluation,
            distance_quantiles=fitted.distance_quantiles,
            curves=fitted.curves,
            notes=fitted.notes,
            head_sha256=head_sha256,
            created_at=created_at.isoformat(timespec="seconds"),
            trunkline_version=trunkline_version,
            group=fitted.group,
            test_split=fitted.test_split,
        )

    def dumps(self) -> str:
        """The text of ``card.json``."""
        return json.dumps(self.to_json(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, document: Any, where: str = "the card") -> HeadCard:
        """The card in a JSON object.

        Raises:
            ModelFileError: Another schema version, missing or unknown keys, values of a wrong type or
                out of range; ``where`` names the file.
        """
        document = _upgraded(document, where)
        check_fields(document, _KINDS, where)
        check_list(document["classes"], str, f"{where}: classes")
        check_list(document["notes"], str, f"{where}: notes")
        check_fields(document["convergence"], _CONVERGENCE_KINDS, f"{where}: convergence")
        for key in ("distance_quantiles", "curves"):
            for name, value in document[key].items():
                check_list([value] if key == "distance_quantiles" else value, float, f"{where}: {key}.{name}")
        _check_values(document, where)
        values = {key: value for key, value in document.items() if key != "schema_version"}
        values["classes"], values["notes"] = tuple(document["classes"]), tuple(document["notes"])
        values["convergence"] = Convergence(**document["convergence"])
        values["curves"] = {name: tuple(curve) for name, curve in document["curves"].items()}
        for key in ("metrics", "test_metrics"):
            if document[key] is not None:
                values[key] = evaluation_from_json(document["task"], document[key], f"{where}: {key}")
        return cls(**values)

    @classmethod
    def loads(cls, text: str | bytes, where: str = "the card") -> HeadCard:
        """The card in the text of a ``card.json``.

        Raises:
            ModelFileError: It is not one.
        """
        return cls.from_json(parse_object(text, where), where)


_KINDS: dict[str, Kind] = {
    "schema_version": int,
    "name": str,
    "version": int,
    "kind": str,
    "task": str,
    "space_id": str,
    "dim": int,
    "model": str,
    "decode": str,
    "classes": list,
    "target": str,
    "collection": str,
    "collection_version": int,
    "training_hash": str,
    "rows": int,
    "hyper_parameters": dict,
    "temperature": float,
    "convergence": dict,
    "metrics": (dict, type(None)),
    "test_metrics": (dict, type(None)),
    "distance_quantiles": dict,
    "curves": dict,
    "notes": list,
    "head_sha256": str,
    "created_at": str,
    "trunkline_version": str,
    "group": str,
    "test_split": str,
}

_CONVERGENCE_KINDS: dict[str, Kind] = {"converged": bool, "gradient_norm": float, "iterations": int}
# What a card of schema 1 leaves unsaid: its heads were all of these.
_SCHEMA_1: dict[str, Any] = {
    "task": "single-label",
    "decode": "exact",
    "target": "label",
    "test_metrics": None,
    "distance_quantiles": {},
    "curves": {},
    "group": "",
    "test_split": "test",
}


def _upgraded(document: Any, where: str) -> Any:
    """A document of schema 1 as one of schema 2; any other as it is.

    Raises:
        ModelFileError: A schema version that this Trunkline does not know.
    """
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version == 1 and "converged" in document:
        kept = {key: value for key, value in document.items() if key != "converged"}
        convergence = {"converged": document["converged"], "gradient_norm": 0.0, "iterations": 0}
        return {**kept, **_SCHEMA_1, "convergence": convergence, "schema_version": SCHEMA_VERSION}
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise ModelFileError(
            f"{where} has schema_version {version}; this Trunkline reads 1 and {SCHEMA_VERSION}. "
            "Use the Trunkline that wrote it, or fit the head again"
        )
    return document


def _check_values(document: Mapping[str, Any], where: str) -> None:
    classes = document["classes"]
    pretrained = document["kind"] == PRETRAINED
    checks = {
        "name": is_name(document["name"]),
        "version": 0 < document["version"] <= LARGEST,
        "dim": 0 < document["dim"] <= LARGEST,
        "collection_version": 0 <= document["collection_version"] <= LARGEST,
        "rows": 0 < document["rows"] <= 2**63 - 1 or (pretrained and document["rows"] == 0),
        "metrics": document["metrics"] is not None or pretrained,
        "task": document["task"] in TASKS,
        "classes": len(classes) >= _LEAST_CLASSES.get(document["task"], 0)
        and len(set(classes)) == len(classes),
        "temperature": 0 < document["temperature"] <= _LARGEST_FLOAT,
        "training_hash": _SHA256.fullmatch(document["training_hash"]) is not None,
        "head_sha256": _SHA256.fullmatch(document["head_sha256"]) is not None,
        "created_at": _is_time(document["created_at"]),
    }
    wrong = [key for key, right in checks.items() if not right]
    if wrong:
        shown = "; ".join(f"{key} is {document[key]!r:.100}" for key in wrong)
        raise ModelFileError(f"{where} holds values that can't be right: {shown}")


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
