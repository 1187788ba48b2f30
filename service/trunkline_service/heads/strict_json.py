"""Reading JSON documents that must have exactly the expected keys and types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from trunkline_service.errors import ModelFileError

Kind = type | tuple[type, ...]


def parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    """The JSON object in ``text``; NaN, infinity and doubled keys are refused.

    Raises:
        ModelFileError: It is not one; ``where`` names the file.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise ModelFileError(f"{where} is not valid JSON ({exc}); restore or fit it again") from exc
    if not isinstance(document, dict):
        raise ModelFileError(
            f"{where} holds {type(document).__name__}, not an object; restore or fit it again"
        )
    return document


def check_fields(document: Any, kinds: Mapping[str, Kind], where: str) -> None:
    """Whether ``document`` is an object with exactly the keys of ``kinds``, each of its type.

    An integer passes where a float is expected; a bool passes as a number nowhere.

    Raises:
        ModelFileError: Missing or unknown keys, or a value of a wrong type.
    """
    if not isinstance(document, dict):
        raise ModelFileError(f"{where} must be an object, and is {type(document).__name__}")
    missing, unknown = kinds.keys() - document.keys(), document.keys() - kinds.keys()
    if missing or unknown:
        parts = [
            f"{word} {', '.join(sorted(keys))}"
            for word, keys in (("lacks", missing), ("has unknown", unknown))
            if keys
        ]
        raise ModelFileError(f"{where} {' and '.join(parts)}; it may be of another version of Trunkline")
    for key, kind in kinds.items():
        check_type(document[key], kind, f"{where}: {key}")


def check_list(value: Any, kind: Kind, where: str) -> None:
    """Whether ``value`` is a list of values of ``kind``.

    Raises:
        ModelFileError: It is not.
    """
    check_type(value, list, where)
    for i, item in enumerate(value):
        check_type(item, kind, f"{where}[{i}]")


def check_type(value: Any, kind: Kind, where: str) -> None:
    """Whether ``value`` is of ``kind``.

    Raises:
        ModelFileError: It is not.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    allowed = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(k.__name__ for k in kinds)
        raise ModelFileError(f"{where} must be {names}, and is {value!r:.100}")


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands twice")
    return document
