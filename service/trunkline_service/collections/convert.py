"""Rows to Arrow and back; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.metadata import Scalar, column_array, plain
from trunkline_service.collections.rows import Label, Row, stored_row
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.errors import InvalidArgument

_APART = ("embedding", "label", "metadata", "embedded_at")
_PLAIN = tuple(entry.name for entry in fields(Row) if entry.name not in _APART)
_PLAIN_OF = attrgetter(*_PLAIN)
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def rows_to_table(rows: Sequence[Row], schema: Any, embedded_at: datetime) -> Any:
    """An Arrow table of the rows, in their order, with every column of the schema.

    Args:
        rows: Their embeddings, where they have one, are of the schema's dimension.
        schema: The collection's; users' columns that a row does not name are null.
        embedded_at: The moment that every row gets which has none, with a time zone.

    Raises:
        InvalidArgument: A value that the schema's column can't hold, naming the row.
    """
    import pyarrow as pa

    ids = [row.id for row in rows]
    columns = {
        "embedding": _vectors(rows, schema.field("embedding").type),
        "label": _labels(rows, schema.field("label").type),
        "embedded_at": pa.array(
            [row.embedded_at or embedded_at for row in rows], schema.field("embedded_at").type
        ),
    }
    plain_values = zip(*map(_PLAIN_OF, rows), strict=True) if rows else ((),) * len(_PLAIN)
    for name, values_ in zip(_PLAIN, plain_values, strict=True):
        columns[name] = pa.array(values_, schema.field(name).type)
    for name in schema.names:
        if name not in COLUMNS:
            values = [row.metadata.get(name) for row in rows]
            columns[name] = column_array(ids, name, values, schema.field(name).type)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def table_to_rows(table: Any) -> list[Row]:
    """The rows of an Arrow table that has every column of a collection."""
    embeddings: list[NDArray[np.float32] | None] = []
    for chunk in table.column("embedding").chunks:
        vectors = iter(valid_vectors(chunk))
        embeddings += [next(vectors).copy() if valid else None for valid in chunk.is_valid().to_pylist()]
    labels = [as_label(value) for value in table.column("label").to_pylist()]
    moments = [value.astimezone(UTC) for value in table.column("embedded_at").to_pylist()]
    own = {name: table.column(name).to_pylist() for name in table.column_names if name not in COLUMNS}
    metadata: list[dict[str, Scalar]] = [{} for _ in embeddings]
    for name, values in own.items():
        for held, value in zip(metadata, values, strict=True):
            if value is not None:
                held[name] = plain(value)
    others = zip(*(table.column(name).to_pylist() for name in _PLAIN), strict=True)
    return [
        stored_row(
            embedding=embedding,
            label=label,
            embedded_at=moment,
            metadata=held,
            **dict(zip(_PLAIN, texts, strict=True)),
        )
        for embedding, label, moment, held, texts in zip(
            embeddings, labels, moments, metadata, others, strict=True
        )
    ]


def as_label(value: Any) -> Label:
    """A label as Arrow gives it, as a ``Label``."""
    return tuple(value) if isinstance(value, list) else value


def valid_vectors(column: Any) -> NDArray[np.float32]:
    """The vectors of a fixed-size-list array that are not null, float32 (n, dim); a view where it can be."""
    values: NDArray[np.floating[Any]] = column.flatten().to_numpy(zero_copy_only=False)
    return values.astype(np.float32, copy=False).reshape(-1, column.type.list_size)


def check_label(row_id: str, label: Label, multi_label: bool) -> None:
    """Refuses a list where the collection holds single labels, and the reverse.

    Raises:
        InvalidArgument: Naming the row.
    """
    if label is not None and isinstance(label, tuple) != multi_label:
        holds = "lists of labels" if multi_label else "one label a row"
        raise InvalidArgument(f"row {row_id!r}: its label is {label!r}; the collection holds {holds}")


def _vectors(rows: Sequence[Row], kind: Any) -> Any:
    import pyarrow as pa

    missing = np.fromiter((row.embedding is None for row in rows), bool, len(rows))
    nothing = np.zeros(kind.list_size, np.float32)
    parts = [nothing if row.embedding is None else row.embedding for row in rows]
    # Three times as fast as filling a matrix row by row.
    vectors = np.concatenate(parts or [nothing[:0]]).reshape(len(rows), kind.list_size)
    floats: NDArray[Any] = vectors
    if kind.value_type == pa.float16():
        beyond = np.abs(vectors).max(axis=1, initial=0.0) > _LARGEST_FLOAT16
        if beyond.any():
            row = rows[int(np.argmax(beyond))]
            raise InvalidArgument(
                f"row {row.id!r}: its embedding has values beyond float16's {_LARGEST_FLOAT16:.0f}, and the "
                "collection stores float16; use a collection of float32"
            )
        floats = vectors.astype(np.float16)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(floats.reshape(-1), kind.value_type), type=kind, mask=pa.array(missing)
    )


def _labels(rows: Sequence[Row], kind: Any) -> Any:
    import pyarrow as pa

    multi = pa.types.is_list(kind)
    for row in rows:
        check_label(row.id, row.label, multi)
    return pa.array([list(row.label) if isinstance(row.label, tuple) else row.label for row in rows], kind)
