"""Rows to Arrow and back; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.rows import Row
from trunkline_service.collections.schema import arrow_schema

_PLAIN = tuple(entry.name for entry in fields(Row) if entry.name != "embedding")


def rows_to_table(rows: Sequence[Row], dim: int, embedded_at: datetime) -> Any:
    """An Arrow table of the rows, in their order.

    Args:
        rows: Their embeddings, where they have one, are of shape (dim,).
        dim: Floats of one embedding.
        embedded_at: The moment that every row gets, with a time zone.
    """
    import pyarrow as pa

    schema = arrow_schema(dim)
    vectors = np.zeros((len(rows), dim), np.float32)
    missing = np.zeros(len(rows), bool)
    for position, row in enumerate(rows):
        if row.embedding is None:
            missing[position] = True
        else:
            vectors[position] = row.embedding
    columns = {}
    for name in _PLAIN:
        columns[name] = pa.array([getattr(row, name) for row in rows], schema.field(name).type)
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.reshape(-1)), type=schema.field("embedding").type, mask=pa.array(missing)
    )
    columns["embedded_at"] = pa.array([embedded_at] * len(rows), schema.field("embedded_at").type)
    return pa.table(columns, schema=schema)


def table_to_rows(table: Any) -> list[Row]:
    """The rows of an Arrow table that has every column of a collection."""
    embeddings: list[NDArray[np.float32] | None] = []
    for chunk in table.column("embedding").chunks:
        vectors = iter(valid_vectors(chunk))
        embeddings += [next(vectors).copy() if valid else None for valid in chunk.is_valid().to_pylist()]
    columns = {name: table.column(name).to_pylist() for name in _PLAIN}
    return [
        Row(embedding=embedding, **{name: columns[name][position] for name in _PLAIN})
        for position, embedding in enumerate(embeddings)
    ]


def valid_vectors(column: Any) -> NDArray[np.float32]:
    """The vectors of a fixed-size-list array that are not null, shape (n, dim); a view where it can be."""
    values: NDArray[np.float32] = column.flatten().to_numpy()
    return values.reshape(-1, column.type.list_size)
