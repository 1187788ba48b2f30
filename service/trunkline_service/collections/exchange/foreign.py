"""Columns of other people's Arrow tables as rows; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.convert import as_label
from trunkline_service.collections.metadata import check_column, plain
from trunkline_service.collections.rows import Row
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.collections.spec import RowDecode
from trunkline_service.errors import InvalidArgument, NonFiniteEmbedding

_TEXT = ("split", "source", "content_hash", "etag", "decode", "status", "error", "job")
_NEVER_NULL = ("source", "content_hash")


@dataclass(frozen=True)
class Origin:
    """What is known of a file that rows come from.

    Attributes:
        name: For messages.
        decode: How the images of its rows were decoded, where the rows do not say so.
        trusted: The file says it of each row, and is believed.
    """

    name: str
    decode: RowDecode
    trusted: bool


def rows_from(columns: Any, origin: Origin, start: int) -> list[Row]:
    """Rows of an Arrow record batch or table with the columns ``id``, ``embedding`` and any others.

    A vector that holds NaN or infinity becomes an error row, as does a row without one.

    Args:
        columns: The batch.
        origin: The file.
        start: Number of its first row in the file, counted from 0.

    Raises:
        InvalidArgument: A column of a type that can't be taken, a row without an id, a value that a row
            can't have; naming column or row.
    """
    check_columns(columns.schema, origin.name)
    values = {name: _values(columns.column(name), name, origin.name) for name in columns.schema.names}
    vectors = _vectors(columns.column("embedding"))
    own = [name for name in values if name not in COLUMNS]
    rows = []
    for position, row_id in enumerate(values["id"]):
        if not row_id:
            raise InvalidArgument(
                f"{origin.name}: row {start + position + 1} (counted from 1) has no id; give every row an id"
            )
        given = {name: values[name][position] for name in values if name in COLUMNS}
        metadata = {name: plain(values[name][position]) for name in own if values[name][position] is not None}
        rows.append(_row(given, vectors[position], metadata, origin))
    return rows


def check_columns(schema: Any, name: str) -> None:
    """Refuses a table that lacks a column, or has one that can't be taken.

    Raises:
        InvalidArgument: Naming the column.
    """
    import pyarrow as pa

    for needed in ("id", "embedding"):
        if needed not in schema.names:
            raise InvalidArgument(
                f"{name} has no column {needed!r}; its columns are {', '.join(schema.names)}: rename one"
            )
    kind = schema.field("embedding").type
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(test(kind) for test in lists) or not pa.types.is_floating(kind.value_type):
        raise InvalidArgument(f"{name}: column 'embedding' holds {kind}; it must be lists of floats")
    for field in schema:
        if field.name not in COLUMNS:
            check_column(field.name, COLUMNS)
        if field.name != "embedding":
            wanted_type(field, name)


def wanted_type(field: Any, name: str) -> Any:
    """The Arrow type that a column other than ``embedding`` is taken as.

    Raises:
        InvalidArgument: It can't be taken; naming the column and its type.
    """
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    taken = _taken_type(kind)
    if field.name in ("id", *_TEXT):
        possible: tuple[Any, ...] = (pa.utf8(),)
        # Numbers as ids, labels and splits are common, and as text they say the same.
        taken = pa.utf8() if taken == pa.int64() and field.name in ("id", "split") else taken
    elif field.name == "label":
        possible = (pa.utf8(), pa.list_(pa.utf8()))
        taken = pa.utf8() if taken == pa.int64() else taken
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            taken = pa.list_(_taken_type(kind.value_type) or pa.null())
    elif field.name == "size":
        possible, taken = (pa.int64(),), pa.int64() if taken == pa.float64() else taken
    elif field.name == "mtime":
        possible, taken = (pa.float64(),), pa.float64() if taken == pa.int64() else taken
    elif field.name == "embedded_at":
        possible = (pa.timestamp("us", tz="UTC"),)
    else:
        possible = (taken,)
    if pa.types.is_null(kind):
        return possible[0] or pa.null()
    if taken is None or taken not in possible:
        holds = "text, numbers, true or false, or times with a time zone" if taken is None else possible[0]
        raise InvalidArgument(
            f"{name}: column {field.name!r} holds {field.type}; it can hold {holds}: convert it, or leave it out"
        )
    return taken


def _taken_type(kind: Any) -> Any:
    import pyarrow as pa

    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.utf8()
    if types.is_boolean(kind):
        return pa.bool_()
    if types.is_integer(kind):
        return pa.int64()
    if types.is_floating(kind):
        return pa.float64()
    if types.is_timestamp(kind) and kind.tz is not None:
        return pa.timestamp("us", tz="UTC")
    return None


def _values(column: Any, name: str, origin: str) -> list[Any]:
    import pyarrow as pa

    if name == "embedding":
        return [None] * len(column)
    field = pa.field(name, column.type)
    try:
        values: list[Any] = column.cast(wanted_type(field, origin)).to_pylist()
    except pa.ArrowInvalid as exc:
        raise InvalidArgument(f"{origin}: column {name!r} can't be taken: {exc}; convert it") from exc
    return values


def _vectors(column: Any) -> list[NDArray[np.float32] | None]:
    """The vectors of a list array, by row; None for null."""
    import pyarrow.compute as pc

    there = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False) * there
    ends = np.cumsum(lengths, dtype=np.int64)
    with np.errstate(over="ignore"):
        # What is beyond float32 becomes infinity, and an error row.
        flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return [
        flat[end - length : end] if valid else None
        for valid, length, end in zip(there, lengths, ends, strict=True)
    ]


def _row(
    given: dict[str, Any], vector: NDArray[np.float32] | None, metadata: dict[str, Any], origin: Origin
) -> Row:
    values = {name: value for name, value in given.items() if name not in ("embedding", "label")}
    for name in _NEVER_NULL:
        values[name] = values.get(name) or ""
    decode = values.pop("decode", None) if origin.trusted else None
    values["decode"] = decode or origin.decode
    status = values.pop("status", None) or "ok"
    error = values.pop("error", None)
    if status == "ok":
        status, error, vector = _judged(vector, error)
    return Row(
        **{name: value for name, value in values.items() if value is not None},
        embedding=vector,
        label=as_label(given.get("label")),
        status=status,  # type: ignore[arg-type]  # the row itself checks it
        error=error,
        metadata=metadata,
    )


def _judged(
    vector: NDArray[np.float32] | None, error: str | None
) -> tuple[str, str | None, NDArray[np.float32] | None]:
    if vector is None:
        return "error", error or "no_embedding: the file has none for this row", None
    if not np.isfinite(vector).all():
        return "error", f"{NonFiniteEmbedding.reason}: its vector holds NaN or infinity", None
    return "ok", error, vector


def matrix_rows(vectors: NDArray[np.floating[Any]], ids: Sequence[str], decode: RowDecode) -> list[Row]:
    """Rows of a matrix, float (N, dim), and as many ids; vectors that are not finite become error rows."""
    with np.errstate(over="ignore"):
        floats = np.ascontiguousarray(vectors, np.float32)
    rows = []
    for row_id, floats_of_row in zip(ids, floats, strict=True):
        status, error, vector = _judged(floats_of_row, None)
        rows.append(
            _row({"id": row_id, "status": status, "error": error}, vector, {}, Origin("", decode, False))
        )
    return rows
