"""Columns of the users' own: names, types, and what Python value becomes which. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from trunkline_service.errors import InvalidArgument

Scalar: TypeAlias = str | bool | int | float | datetime | None
"""A value of a user's column. None is null; a ``datetime`` has a time zone."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_INT64 = range(-(2**63), 2**63)
LARGEST_EXACT = 2**53
"""Up to here, on both sides of zero, every whole number is a float."""


def check_column(name: str, reserved: Sequence[str]) -> None:
    """Refuses what can't name a user's column.

    Raises:
        InvalidArgument: A name of Trunkline's own, or one that SQL would need quotes for.
    """
    if name in reserved:
        raise InvalidArgument(f"{name!r} is a column of every collection; give your own another name")
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name!r} can't name a column: use 1 to 64 letters, digits or '_', beginning with a letter"
        )


def check_scalar(row_id: str, name: str, value: object) -> None:
    """Refuses what no column can hold.

    Raises:
        InvalidArgument: Naming row, column and value.
    """
    where = f"row {row_id!r}, column {name!r}"
    if isinstance(value, int) and not isinstance(value, bool) and value not in _INT64:
        raise InvalidArgument(f"{where}: {value} does not fit into 64 bits; store it as text")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgument(f"{where}: {value} is no finite number; leave the value out for null")
    if isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidArgument(f"{where}: {value} has no time zone; give it one (UTC, say)")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise InvalidArgument(f"{where}: no valid Unicode text; escape it") from exc
    if value is not None and not isinstance(value, (str, bool, int, float, datetime)):
        raise InvalidArgument(
            f"{where}: a {type(value).__name__} can't be stored; use text, a number, true or false, or a time"
        )


def arrow_type(value: Scalar) -> Any:
    """The Arrow type of a column whose first value this is; None for null, which says nothing."""
    import pyarrow as pa

    if value is None:
        return None
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, datetime):
        return pa.timestamp("us", tz="UTC")
    return pa.utf8()


def column_array(ids: Sequence[str], name: str, values: Sequence[Scalar], wanted: Any) -> Any:
    """One column of values as an Arrow array of the type ``wanted``.

    Whole numbers go into a column of floats; nothing else changes its type.

    Raises:
        InvalidArgument: A value of another type, naming its row and what to do.
    """
    import pyarrow as pa

    for row_id, value in zip(ids, values, strict=True):
        got = arrow_type(value)
        if got is None or got == wanted:
            continue
        where = f"row {row_id!r}, column {name!r}"
        if got != pa.int64() or wanted != pa.float64():
            raise InvalidArgument(
                f"{where}: {value!r} is of type {got}, the column holds {wanted}. Give it values of one type where "
                "they come from, or give the values of this type a column of another name; then run it again"
            )
        if isinstance(value, int) and abs(value) > LARGEST_EXACT:
            raise InvalidArgument(
                f"{where}: the column holds floats, and none is equal to {value}; store it as text in another column"
            )
    return pa.array(values, wanted)


def new_columns(rows: Sequence[tuple[str, Mapping[str, Scalar]]], known: Mapping[str, Any]) -> dict[str, Any]:
    """Arrow types of the columns that rows bring and that are not there yet, by name.

    A column is of floats where whole numbers and floats are mixed.
    """
    import pyarrow as pa

    found: dict[str, Any] = {}
    for _row_id, metadata in rows:
        for name, value in metadata.items():
            kind = None if name in known else arrow_type(value)
            if kind is None:
                continue
            if found.get(name) in (None, pa.int64()) and kind in (pa.int64(), pa.float64()):
                found[name] = kind
            found.setdefault(name, kind)
    return found


def floats_for(rows: Sequence[tuple[str, Mapping[str, Any]]], known: Mapping[str, Any]) -> set[str]:
    """The columns of whole numbers, of those that are known, to which rows bring floats and numbers alone."""
    import pyarrow as pa

    whole = {name for name, kind in known.items() if kind == pa.int64()}
    brought: dict[str, set[type]] = {}
    for _row_id, metadata in rows:
        for name in whole & metadata.keys():
            if metadata[name] is not None:
                brought.setdefault(name, set()).add(type(metadata[name]))
    return {name for name, types in brought.items() if float in types and types <= {int, float}}


def plain(value: Any) -> Scalar:
    """A value as Arrow gives it, as a ``Scalar``: times in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    scalar: Scalar = value
    return scalar
