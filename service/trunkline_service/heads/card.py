"""The card of a head: ``card.json`` beside ``head.onnx``, which says all about it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.evaluation.evaluate import Evaluation
from trunkline_service.heads.strict_json import Kind, check_fields, check_list, parse_object
from trunkline_service.names import is_name

SCHEMA_VERSION = 1
PRETRAINED = "pretrained"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HeadCard:
    """Everything about one version of a head.

    Attributes:
        name: Of the head.
        version: A positive integer.
        kind: How it was fitted, e.g. ``logistic``; or ``pretrained``, a network's own last layer.
        space_id: The space whose embeddings it takes.
        dim: Their length.
        model: ``name@version`` of the model that embedded the training rows.
        classes: K labels, in the order of the outputs.
        collection: Where the training rows came from; empty for a pretrained classifier.
        collection_version: Its version then.
        training_hash: SHA-256 over the training embeddings and labels, or over a pretrained classifier.
        rows: How many those were.
        hyper_parameters: What was chosen, from what, and how.
        temperature: What calibration divided the logits by; already inside ``head.onnx``.
        converged: Whether the solver reached its tolerance.
        metrics: Out-of-fold evaluation; None for a pretrained classifier, which no rows here were used for.
        notes: What was left out and what deserves a look, in sentences.
        head_sha256: Of the bytes of ``head.onnx``.
        created_at: ISO 8601, with offset.
        trunkline_version: Of the program that fitted it.
    """

    name: str
    version: int
    kind: str
    space_id: str
    dim: int
    model: str
    classes: tuple[str, ...]
    collection: str
    collection_version: int
    training_hash: str
    rows: int
    hyper_parameters: Mapping[str, Any]
    temperature: float
    converged: bool
    metrics: Evaluation | None
    notes: tuple[str, ...]
    head_sha256: str
    created_at: str
    trunkline_version: str

    @property
    def ref(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def to_json(self) -> dict[str, Any]:
        """A JSON object, ``schema_version`` first; ``from_json`` reads it."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["classes"], values["notes"] = list(self.classes), list(self.notes)
        values["hyper_parameters"] = dict(self.hyper_parameters)
        values["metrics"] = None if self.metrics is None else self.metrics.to_json()
        return {"schema_version": SCHEMA_VERSION, **values}

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
        version = document.get("schema_version") if isinstance(document, dict) else None
        if isinstance(version, int) and version != SCHEMA_VERSION:
            raise ModelFileError(
                f"{where} has schema_version {version}; this Trunkline reads {SCHEMA_VERSION}. "
                "Use the Trunkline that wrote it, or fit the head again"
            )
        check_fields(document, _KINDS, where)
        check_list(document["classes"], str, f"{where}: classes")
        check_list(document["notes"], str, f"{where}: notes")
        _check_values(document, where)
        values = {key: value for key, value in document.items() if key != "schema_version"}
        values["classes"], values["notes"] = tuple(document["classes"]), tuple(document["notes"])
        if document["metrics"] is not None:
            values["metrics"] = Evaluation.from_json(document["metrics"], f"{where}: metrics")
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
    "space_id": str,
    "dim": int,
    "model": str,
    "classes": list,
    "collection": str,
    "collection_version": int,
    "training_hash": str,
    "rows": int,
    "hyper_parameters": dict,
    "temperature": float,
    "converged": bool,
    "metrics": (dict, type(None)),
    "notes": list,
    "head_sha256": str,
    "created_at": str,
    "trunkline_version": str,
}


def _check_values(document: Mapping[str, Any], where: str) -> None:
    classes = document["classes"]
    pretrained = document["kind"] == PRETRAINED
    checks = {
        "name": is_name(document["name"]),
        "version": document["version"] > 0,
        "dim": document["dim"] > 0,
        "rows": document["rows"] > 0 or (pretrained and document["rows"] == 0),
        "metrics": document["metrics"] is not None or pretrained,
        "classes": len(classes) >= 2 and len(set(classes)) == len(classes),
        "temperature": document["temperature"] > 0,
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
