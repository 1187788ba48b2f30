"""Rows of one version of a collection, as messages, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from trunkline_protos.v1 import collections_pb2, common_pb2
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.store import Resolved
from trunkline_service.server.converters import matrix_to
from trunkline_service.server.row_converters import batch_to, pieces, values_from

_MESSAGE_BYTES = 8 * 1024 * 1024
_MOST_ROWS = 8192
# Of the texts beside a vector, for how many rows to read at once; a wrong guess is mended by `pieces`.
_ROW_BYTES = 512


def scan(
    resolved: Resolved, request: collections_pb2.ScanRequest, max_message_bytes: int
) -> Iterator[collections_pb2.RowBatch]:
    """The rows that a request asks for; one empty batch where there are none.

    Args:
        resolved: What the request's reference stands for.
        request: What is asked for.
        max_message_bytes: The most that one message may hold; one row may be larger.

    Raises:
        InvalidArgument: An unknown column or version, a condition that can't be used, or vectors that
            don't fit into the floats that are asked for.
    """
    vectors = request.with_embeddings or "embedding" in request.columns
    return _messages(
        resolved,
        _columns(resolved, request.columns, vectors),
        request.where or None,
        values_from(request.parameters),
        request.type if vectors else None,
        request.batch_size,
        max_message_bytes,
    )


def rows_by_id(resolved: Resolved, request: collections_pb2.GetRowsRequest) -> collections_pb2.RowBatch:
    """The rows of these ids, in this order.

    Raises:
        RowNotFound: Naming the ids that have no row.
        InvalidArgument: Vectors that don't fit into the floats that are asked for.
    """
    import pyarrow as pa

    collection, version = _pinned(resolved)
    wanted = list(dict.fromkeys(request.ids))
    condition = f"id IN ({','.join('?' * len(wanted))})" if wanted else "false"
    columns = _columns(resolved, (), request.with_embeddings)
    batches = list(collection.scan(columns, condition, version=version, parameters=wanted))
    position = {
        row_id: at for at, row_id in enumerate(x for b in batches for x in b.column("id").to_pylist())
    }
    if len(position) < len(wanted):
        # It knows how to say which ones.
        collection.get([row_id for row_id in wanted if row_id not in position], version)
    kind = request.type if request.with_embeddings else None
    if not batches:
        return _empty(collection, version, kind)
    table = pa.Table.from_batches(batches).take([position[row_id] for row_id in request.ids])
    batch = table.combine_chunks().to_batches()[0]
    return batch_to(batch, collection.spec.space_id, collection.name, version, kind)


def _pinned(resolved: Resolved) -> tuple[Collection, int]:
    version = resolved.version
    return resolved.collection, resolved.collection.version if version is None else version


def _columns(resolved: Resolved, asked: Sequence[str], vectors: bool) -> list[str] | None:
    """The columns to read; None for all."""
    if asked:
        columns = dict.fromkeys(("id", *asked, *(("embedding",) if vectors else ())))
    elif vectors:
        return None
    else:
        found = resolved.collection.columns(resolved.version)
        columns = dict.fromkeys(name for name in found if name != "embedding")
    return list(columns)


def _messages(
    resolved: Resolved,
    columns: list[str] | None,
    where: str | None,
    parameters: Sequence[Scalar],
    kind: common_pb2.FloatType | None,
    batch_size: int,
    max_message_bytes: int,
) -> Iterator[collections_pb2.RowBatch]:
    collection, version = _pinned(resolved)
    spec = collection.spec
    most_bytes = min(_MESSAGE_BYTES, max_message_bytes // 2)
    row_bytes = _ROW_BYTES + (0 if kind is None else spec.dim * 4)
    rows = max(1, min(batch_size or _MOST_ROWS, _MOST_ROWS, most_bytes // row_bytes))
    empty = True
    for batch in collection.scan(columns, where, rows, version, parameters):
        for piece in pieces(batch, most_bytes):
            empty = False
            yield batch_to(piece, spec.space_id, collection.name, version, kind)
    if empty:
        yield _empty(collection, version, kind)


def _empty(
    collection: Collection, version: int, kind: common_pb2.FloatType | None
) -> collections_pb2.RowBatch:
    spec = collection.spec
    none = None if kind is None else matrix_to(np.empty((0, spec.dim), np.float32), kind)
    return collections_pb2.RowBatch(
        embeddings=none, collection_version=version, space_id=spec.space_id, collection=collection.name
    )
