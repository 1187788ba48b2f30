"""Rows of a collection to and from their messages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from trunkline._wire import floats
from trunkline._wire.scalars import check_text, labels_to, metadata_to, value_from, value_to
from trunkline.exceptions import Internal, InvalidRequest
from trunkline.rows import Label, Row, Rows
from trunkline_protos.v1 import collections_pb2, explore_pb2, search_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPTIONAL = ("split", "etag", "size", "mtime", "error", "job")


def row_to(row: Row) -> collections_pb2.Row:
    """A row without its embedding.

    Raises:
        InvalidRequest: A value of a type that its column can't hold, naming the row.
    """
    where = f"row {row.id!r}"
    check_text(row.id, where)
    own: dict[str, Any] = {"metadata": metadata_to(row.metadata, where)} if row.metadata else {}
    if row.embedded_at is not None:
        if not isinstance(row.embedded_at, datetime):
            raise InvalidRequest(f"{where}: its embedded_at is {row.embedded_at!r}; it must be a datetime")
        own["embedded_at"] = value_to(row.embedded_at, f"{where}: its embedded_at").time
    label: dict[str, Any] = {}
    if isinstance(row.label, (tuple, list)):
        label = {"labels": labels_to(row.label, f"{where}: its label")}
    elif row.label is not None:
        label = {"label": check_text(row.label, f"{where}: its label")}
    try:
        return collections_pb2.Row(
            id=row.id,
            source=row.source,
            content_hash=row.content_hash,
            decode=row.decode or "",
            status=row.status,
            **{name: getattr(row, name) for name in _OPTIONAL},
            **label,
            **own,
        )
    except (TypeError, ValueError) as exc:
        raise InvalidRequest(f"{where} can't be sent: {exc}") from exc


def rows_from(
    batch: collections_pb2.RowBatch, columns: Collection[str] | None, vectors: bool, dtype: str = "float32"
) -> Rows:
    """A batch column by column.

    Args:
        batch: The server's.
        columns: Those that were asked for; None for all.
        vectors: Whether vectors were asked for.
        dtype: Their floats.

    Raises:
        Internal: The batch breaks the contract.
    """
    if vectors != batch.HasField("embeddings"):
        raise Internal(f"vectors were{'' if vectors else ' not'} asked for, and the reply does the opposite")
    rows = list(batch.rows)
    lists = {
        name: read(rows) for column, (name, read) in _COLUMNS.items() if columns is None or column in columns
    }
    own = columns is None or any(column not in _STANDARD for column in columns)
    matrix = floats.unpack(batch.embeddings, len(rows)).astype(dtype, copy=False) if vectors else None
    return Rows(
        collection=batch.collection,
        version=batch.collection_version,
        space_id=batch.space_id,
        ids=[row.id for row in rows],
        vectors=matrix,
        metadata=_metadata(rows) if own else [],
        complete=columns is None and vectors,
        **lists,
    )


def merged(parts: Sequence[Rows]) -> Rows:
    """Rows behind each other; there is at least one part."""
    if len(parts) == 1:
        return parts[0]
    vectors = [part.vectors for part in parts if part.vectors is not None]
    names = ("ids", "metadata", *(name for name, _read in _COLUMNS.values()))
    lists: dict[str, Any] = {
        name: [entry for part in parts for entry in getattr(part, name)] for name in names
    }
    return replace(parts[0], vectors=np.concatenate(vectors) if vectors else None, **lists)


def _required(name: str) -> Callable[[list[Any]], list[Any]]:
    return lambda rows: [getattr(row, name) for row in rows]


def _nullable(name: str) -> Callable[[list[Any]], list[Any]]:
    return lambda rows: [getattr(row, name) if row.HasField(name) else None for row in rows]


def label_of(message: collections_pb2.Row | search_pb2.Hit | explore_pb2.ExploredRow) -> Label:
    """The label of a row; a tuple of them where the collection is multi-label."""
    if message.HasField("labels"):
        return tuple(message.labels.labels)
    return message.label if message.HasField("label") else None


def _labels(rows: list[Any]) -> list[Any]:
    return [label_of(row) for row in rows]


def _times(rows: list[Any]) -> list[Any]:
    return [_moment(row.embedded_at) if row.HasField("embedded_at") else None for row in rows]


def _moment(message: Any) -> datetime:
    """As the message's own ``ToDatetime``, which takes most of the time of reading a row."""
    return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def _metadata(rows: list[Any]) -> list[dict[str, Any]]:
    return [{name: value_from(value) for name, value in row.metadata.items()} for row in rows]


_COLUMNS: dict[str, tuple[str, Callable[[list[Any]], list[Any]]]] = {
    "label": ("labels", _labels),
    "split": ("splits", _nullable("split")),
    "source": ("sources", _required("source")),
    "content_hash": ("content_hashes", _required("content_hash")),
    "etag": ("etags", _nullable("etag")),
    "size": ("sizes", _nullable("size")),
    "mtime": ("mtimes", _nullable("mtime")),
    "decode": ("decodes", _required("decode")),
    "status": ("statuses", _required("status")),
    "error": ("errors", _nullable("error")),
    "job": ("jobs", _nullable("job")),
    "embedded_at": ("embedded_at", _times),
}
_STANDARD = frozenset({"id", "embedding", *_COLUMNS})
