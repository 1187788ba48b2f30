"""Reading JSON documents that must have exactly the expected keys and types."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from trunkline_service.errors import ModelFileError

Kind = type | tuple[type, ...]
_LARGEST_FLOAT = sys.float_info.max
LARGEST = 2**31 - 1
"""What a count or a version can be at most: messages carry no more."""


def parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    """The JSON object in ``text``; NaN, infinity, doubled keys and halves of characters are refused.

    Raises:
        ModelFileError: It is not one; ``where`` names the file.
    """
    try:
        document = json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique
        )
        # JSON can spell half a character, which no message and no file can hold.
        json.dumps(document, ensure_ascii=False).encode()
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
    if (
        float in kinds
        and not isinstance(value, float)
        and isinstance(value, int)
        and abs(value) > _LARGEST_FLOAT
    ):
        raise ModelFileError(f"{where} is {value!r:.100}, which is too large")


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
