"""Reading JSON documents that must have exactly the expected keys and types."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from trunkline_service.errors import IndexDamaged

Kind = type | tuple[type, ...]


def parse_object(text: str | bytes, schema: int, where: str) -> dict[str, Any]:
    """The JSON object in ``text``, without its ``schema_version``.

    Args:
        text: Of the document.
        schema: The schema version that is read here.
        where: Names the document.

    Raises:
        IndexDamaged: It is none, or of another schema version.
    """
    try:
        document = json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique
        )
    except (ValueError, RecursionError) as exc:
        raise IndexDamaged(f"{where} is not valid JSON ({exc}); build the index again") from exc
    if not isinstance(document, dict):
        raise IndexDamaged(f"{where} holds {type(document).__name__}, not an object; build the index again")
    found = document.pop("schema_version", None)
    if found != schema or isinstance(found, bool):
        raise IndexDamaged(
            f"{where} has schema version {found!r:.20}, and this Trunkline reads {schema}; use the Trunkline "
            "that wrote it, or build the index again"
        )
    return document


def check_fields(document: Any, kinds: Mapping[str, Kind], where: str) -> dict[str, Any]:
    """``document`` itself: an object with exactly the keys of ``kinds``, each of its type.

    An integer passes where a float is expected; a bool passes as a number nowhere.

    Raises:
        IndexDamaged: Missing or unknown keys, or a value of a wrong type.
    """
    if not isinstance(document, dict):
        raise IndexDamaged(f"{where} must be an object, and is {document!r:.100}")
    missing, unknown = kinds.keys() - document.keys(), document.keys() - kinds.keys()
    if missing or unknown:
        raise IndexDamaged(
            f"{where} lacks {sorted(missing)} and has unknown {sorted(unknown)}; it may be of another version of "
            "Trunkline: build the index again"
        )
    for key, kind in kinds.items():
        check_type(document[key], kind, f"{where}: {key}")
    return document


def check_type(value: Any, kind: Kind, where: str) -> None:
    """Whether ``value`` is of ``kind``; an integer that is too large for 64 bits is not.

    Raises:
        IndexDamaged: It is not.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    allowed = (*kinds, int) if float in kinds else kinds
    right = isinstance(value, allowed) and (not isinstance(value, bool) or bool in kinds)
    if not right or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise IndexDamaged(f"{where} must be {names}, and is {value!r:.100}; build the index again")


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands twice")
    return document
