"""From columns of Arrow to labels, splits and plain values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.schema import COLUMNS

_NAME_LENGTH = 64
_INT64 = range(-(2**63), 2**63)


def column_name(name: str) -> str:
    """The name under which a collection keeps a user's column: ``"image size"`` -> ``"image_size"``.

    Names of Trunkline's own columns, and names that begin with no letter, get ``user_`` before them.
    """
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if plain in COLUMNS or not plain[:1].isalpha():
        plain = f"user_{plain}"
    return plain[:_NAME_LENGTH]


def texts(column: Any) -> list[str | None]:
    """A column of ids, paths or splits; an empty text is None."""
    return [None if value is None or value == "" else str(value) for value in _plain(column).to_pylist()]


def scalars(column: Any) -> list[Scalar]:
    """A user's column: numbers, bools and texts as they are, times as ISO text."""
    return [scalar(value) for value in _plain(column).to_pylist()]


def labels(
    column: Any, class_names: Sequence[str] = (), separator: str | None = None
) -> list[str | tuple[str, ...] | None]:
    """A column of labels.

    Args:
        column: Texts, numbers, or lists of them.
        class_names: What numbers stand for.
        separator: Cuts a text into several labels.
    """
    return [_label(value, class_names, separator) for value in _plain(column).to_pylist()]


def _label(value: object, class_names: Sequence[str], separator: str | None) -> str | tuple[str, ...] | None:
    if isinstance(value, list):
        return tuple(name for one in value if (name := _class(one, class_names)) is not None)
    if isinstance(value, str) and separator:
        parts = (part.strip() for part in value.split(separator))
        return tuple(part for part in parts if part) or None
    return _class(value, class_names)


def _class(value: object, names: Sequence[str]) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, int) and names:
        # Hugging Face writes -1 where there is no label.
        return names[value] if 0 <= value < len(names) else None
    return str(value)


def scalar(value: object) -> Scalar:
    """One value as a user's column can hold it: no infinity, no number of more than 64 bits."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and value not in _INT64:
        return str(value)
    assert value is None or isinstance(value, str | int | bool), "callers leave other values out"
    return value


def said(values: Iterable[tuple[str, Scalar]]) -> dict[str, Scalar]:
    """Values by column, without nulls: what a source does not say leaves a row's value as it is."""
    return {name: value for name, value in values if value is not None}


def _plain(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.types as pt

    kind = column.type
    if pt.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pt.is_timestamp(kind) and kind.unit == "ns":
        # Python's times end at microseconds.
        return column.cast(pa.timestamp("us", kind.tz), safe=False)
    if pt.is_time64(kind) and kind.unit == "ns":
        return column.cast(pa.time64("us"), safe=False)
    return column
