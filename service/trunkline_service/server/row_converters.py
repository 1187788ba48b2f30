"""Rows: proto <-> domain. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from google.protobuf import timestamp_pb2
from numpy.typing import NDArray

from trunkline_protos.v1 import collections_pb2, common_pb2
from trunkline_service.collections.arrivals import NewRow
from trunkline_service.collections.convert import valid_vectors
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.rows import Label, Row
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.errors import InvalidArgument
from trunkline_service.server.converters import image_from, matrix_from, matrix_to

_OPTIONAL = ("split", "etag", "size", "mtime", "error", "job")
# Tags and lengths of one field, and of one entry of `metadata` beside its name.
_FIELD_BYTES = 4
_ENTRY_BYTES = 16


def value_to(value: Scalar) -> collections_pb2.Value:
    """A value of a column."""
    if value is None:
        return collections_pb2.Value()
    if isinstance(value, bool):
        return collections_pb2.Value(truth=value)
    if isinstance(value, int):
        return collections_pb2.Value(integer=value)
    if isinstance(value, float):
        return collections_pb2.Value(number=value)
    if isinstance(value, datetime):
        return collections_pb2.Value(time=time_to(value))
    return collections_pb2.Value(text=value)


def value_from(message: collections_pb2.Value) -> Scalar:
    """A value of a column; None where nothing is set.

    Raises:
        InvalidArgument: A time that no calendar has.
    """
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "time":
        return _time(message.time)
    value: Scalar = getattr(message, kind)
    return value


def values_from(messages: Sequence[collections_pb2.Value]) -> list[Scalar]:
    """The parameters of a condition."""
    return [value_from(message) for message in messages]


def new_value_from(message: collections_pb2.NewValue) -> Label | Scalar:
    """What a column is set to; None for null."""
    if message.WhichOneof("kind") == "labels":
        return tuple(message.labels.labels)
    return value_from(message.value)


def time_to(moment: datetime) -> timestamp_pb2.Timestamp:
    """A moment with a time zone."""
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


def _time(message: timestamp_pb2.Timestamp) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidArgument(f"a time of {message.seconds} s is no time: {exc}") from exc


def rows_from(request: collections_pb2.UpsertRequest, decode: str) -> list[Row]:
    """The rows of an Upsert; embeddings of error rows are passed over.

    Args:
        request: What came.
        decode: Of the rows where neither they nor the request say it: the collection's own.

    Raises:
        InvalidArgument: Another number of embeddings than of rows, or what `Row` refuses.
    """
    matrix: NDArray[np.float32] | None = None
    if request.HasField("embeddings"):
        matrix = matrix_from(request.embeddings)
        if len(matrix) != len(request.rows):
            raise InvalidArgument(
                f"{len(request.rows)} rows came with {len(matrix)} embeddings; send one for each row, NaN for errors"
            )
    return [
        _row(message, None if matrix is None else matrix[position], request.decode or decode)
        for position, message in enumerate(request.rows)
    ]


def _row(message: collections_pb2.Row, vector: NDArray[np.float32] | None, decode: str) -> Row:
    status = message.status or "ok"
    return Row(
        id=message.id,
        embedding=vector if status == "ok" else None,
        label=_label(message),
        source=message.source,
        content_hash=message.content_hash,
        decode=message.decode or decode,  # type: ignore[arg-type]  # Row itself checks both
        status=status,  # type: ignore[arg-type]
        metadata=_metadata_from(message.metadata),
        embedded_at=_time(message.embedded_at) if message.HasField("embedded_at") else None,
        **{name: getattr(message, name) if message.HasField(name) else None for name in _OPTIONAL},
    )


def row_from(item: collections_pb2.AddItem) -> NewRow:
    """An image to be stored, with what is said of it.

    Raises:
        InvalidArgument: Both a label and labels, or a time that no calendar has.
    """
    return NewRow(
        image=image_from(item.image),
        id=item.id,
        label=_label(item),
        source=item.source,
        split=item.split if item.HasField("split") else None,
        metadata=_metadata_from(item.metadata),
    )


def _metadata_from(metadata: Mapping[str, collections_pb2.Value]) -> dict[str, Scalar]:
    # A map comes in any order, and new columns are added in this one.
    return {name: value_from(value) for name, value in sorted(metadata.items())}


def _label(message: collections_pb2.Row | collections_pb2.AddItem) -> Label:
    if message.HasField("labels"):
        if message.HasField("label"):
            raise InvalidArgument(f"row {message.id!r} has both a label and labels; send one of them")
        return tuple(message.labels.labels)
    return message.label if message.HasField("label") else None


def batch_to(
    batch: Any, space_id: str, collection: str, version: int, kind: common_pb2.FloatType | None
) -> collections_pb2.RowBatch:
    """A record batch of some of a collection's columns, ``id`` among them.

    Args:
        batch: Arrow's.
        space_id: Of its vectors.
        collection: Where it was read.
        version: At which version.
        kind: How vectors are packed; None for none.

    Raises:
        InvalidArgument: float16 was asked for and a vector does not fit into it.
    """
    names = batch.schema.names
    fields = {name: _COLUMNS.get(name, _values)(batch.column(name)) for name in _sent(names)}
    own = {name: batch.column(name).to_pylist() for name in names if name not in COLUMNS}
    if own:
        fields["metadata"] = _metadata(own, len(batch))
    if "label" in fields and batch.schema.field("label").type != "string":
        fields["labels"] = _labels(fields.pop("label"))
    message = collections_pb2.RowBatch(
        embeddings=None if kind is None else matrix_to(_spread(batch.column("embedding")), kind),
        collection_version=version,
        space_id=space_id,
        collection=collection,
    )
    # Twice as fast as making the rows apart and copying them in.
    add = message.rows.add
    for values in zip(*fields.values(), strict=True):
        add(**dict(zip(fields, values, strict=True)))
    return message


def pieces(batch: Any, most_bytes: int) -> Iterator[Any]:
    """A record batch in as many slices as it takes for each message to be no larger, or a single row."""
    if len(batch) <= 1 or _wire_bytes(batch) <= most_bytes:
        yield batch
        return
    middle = len(batch) // 2
    yield from pieces(batch.slice(0, middle), most_bytes)
    yield from pieces(batch.slice(middle), most_bytes)


def _wire_bytes(batch: Any) -> int:
    """No fewer bytes than the batch takes as a message, in float32."""
    own = [name for name in batch.schema.names if name not in COLUMNS]
    framing = len(COLUMNS) * _FIELD_BYTES + sum(len(name) + _ENTRY_BYTES for name in own)
    vectors: int = sum(field.type.list_size * 4 for field in batch.schema if field.name == "embedding")
    size: int = batch.nbytes
    return size + len(batch) * (framing + vectors)


def _sent(names: Sequence[str]) -> list[str]:
    return [name for name in names if name in COLUMNS and name != "embedding"]


def _values(column: Any) -> list[Any]:
    found: list[Any] = column.to_pylist()
    return found


def _times(column: Any) -> list[timestamp_pb2.Timestamp | None]:
    """Microseconds since the epoch; several times as fast as by way of Python's times."""
    return [
        None
        if value is None
        else timestamp_pb2.Timestamp(seconds=value // 1_000_000, nanos=value % 1_000_000 * 1000)
        for value in column.cast("int64").to_pylist()
    ]


def _labels(values: list[list[str] | None]) -> list[common_pb2.Labels | None]:
    return [None if value is None else common_pb2.Labels(labels=value) for value in values]


def _metadata(own: Mapping[str, list[Scalar]], rows: int) -> list[dict[str, collections_pb2.Value]]:
    found: list[dict[str, collections_pb2.Value]] = [{} for _ in range(rows)]
    for name, values in own.items():
        for row, value in zip(found, values, strict=True):
            if value is not None:
                row[name] = value_to(value)
    return found


def _spread(column: Any) -> NDArray[np.float32]:
    """Every row of a column of vectors; NaN where there is none."""
    matrix = np.full((len(column), column.type.list_size), np.nan, np.float32)
    matrix[column.is_valid().to_numpy(zero_copy_only=False)] = valid_vectors(column)
    return matrix


_COLUMNS: dict[str, Callable[[Any], list[Any]]] = {"embedded_at": _times}
