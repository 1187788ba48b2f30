"""Rows -> a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline._wire import floats, methods
from trunkline._wire.collections import id_list
from trunkline._wire.portions import portions, room
from trunkline._wire.question import Question, Series
from trunkline._wire.rows import row_to
from trunkline.exceptions import InvalidRequest
from trunkline.rows import Label, Row, Scalar
from trunkline.values import ServerInfo
from trunkline_protos.v1 import collections_pb2


class Upsert(Series[int, int]):
    """Rows into a collection, in order, one request after the other.

    Args:
        collection: Its name.
        rows: With their embeddings.
        space_id: Of the embeddings.
        decode: Of all rows that don't say it themselves; empty for the collection's own.
        model: What made them; empty where that need not be checked.
        told: Called after each request with the number of rows that are stored.
    """

    def __init__(
        self,
        collection: str,
        rows: Iterable[Row],
        space_id: str,
        decode: str,
        model: str = "",
        told: Callable[[int], None] | None = None,
    ) -> None:
        self._rows = rows
        self._told = told
        self._base = collections_pb2.UpsertRequest(
            collection=collection, space_id=space_id, decode=decode, model=model
        )

    def questions(self, info: ServerInfo) -> Iterator[Question[int]]:
        """One a request; a single one without rows asks whether they would have been taken."""
        dim = 0
        asked = False
        for items, portion in portions(self._sized(), room(info, self._base)):
            vectors = [vector for _message, vector in portion]
            dim = dim or next((len(vector) for vector in vectors if vector is not None), 0)
            request = collections_pb2.UpsertRequest()
            request.CopyFrom(self._base)
            request.rows.extend(message for message, _vector in portion)
            if any(vector is not None for vector in vectors):
                ids = [message.id for message, _vector in portion]
                floats.pack(_matrix(vectors, ids, dim), request.embeddings)
            asked = True
            yield Question(methods.UPSERT, request, self._reader(items.stop), items)
        if not asked:
            yield Question(methods.UPSERT, self._base, _version)

    def merge(self, answers: Sequence[int]) -> int:
        """The version after the last write."""
        return answers[-1]

    def _reader(self, stored: int) -> Callable[[collections_pb2.UpsertResponse], int]:
        def read(reply: collections_pb2.UpsertResponse) -> int:
            if self._told is not None:
                self._told(stored)
            return _version(reply)

        return read

    def _sized(self) -> Iterator[tuple[str, int, tuple[collections_pb2.Row, NDArray[Any] | None]]]:
        for row in self._rows:
            message, vector = row_to(row), _vector(row)
            size = message.ByteSize() + (0 if vector is None else vector.nbytes)
            yield f"row {row.id!r}", size, (message, vector)


def columns_to_rows(
    ids: Iterable[str],
    vectors: Any,
    labels: Iterable[Label] | None,
    splits: Iterable[str | None] | None,
    sources: Iterable[str] | None,
    metadata: Iterable[Mapping[str, Scalar]] | None,
) -> list[Row]:
    """Rows of status ``ok`` from columns of equal length.

    Raises:
        InvalidRequest: No matrix (N, dim), or columns of other lengths than N.
    """
    matrix = floats.as_matrix(vectors)
    given: dict[str, Any] = {"labels": labels, "splits": splits, "sources": sources, "metadata": metadata}
    # A lone text would be taken letter by letter.
    texts = [name for name, column in given.items() if isinstance(column, str)]
    if texts:
        raise InvalidRequest(f"{texts[0]} is a text; pass a list, one for each row")
    lists = {"ids": id_list(ids)} | {
        name: list(column) for name, column in given.items() if column is not None
    }
    for name, column in lists.items():
        if len(column) != len(matrix):
            raise InvalidRequest(f"{name} has {len(column)} entries for {len(matrix)} vectors")
    fields = {"labels": "label", "splits": "split", "sources": "source", "metadata": "metadata"}
    named = {fields[name]: column for name, column in lists.items() if name != "ids"}
    return [
        Row(id=row_id, embedding=matrix[index], **{name: column[index] for name, column in named.items()})
        for index, row_id in enumerate(lists["ids"])
    ]


def shares(progress: Callable[[str, float], None] | None, rows: int) -> Callable[[int], None] | None:
    """What tells ``progress`` the share of so many rows that is stored."""
    return None if progress is None else lambda stored: progress("storing", stored / rows)


def _version(reply: collections_pb2.UpsertResponse) -> int:
    return int(reply.collection_version)


def _vector(row: Row) -> NDArray[Any] | None:
    if (row.embedding is None) != (row.status == "error"):
        has = "no embedding" if row.embedding is None else "an embedding"
        raise InvalidRequest(
            f"row {row.id!r} has status {row.status!r} and {has}; a row is 'ok' with one, or 'error' without"
        )
    if row.embedding is None:
        return None
    vector = np.asarray(row.embedding)
    if vector.ndim != 1 or vector.dtype.kind not in "fiu":
        raise InvalidRequest(
            f"row {row.id!r}: its embedding is {vector.dtype} of shape {vector.shape}; it must be numbers (dim,)"
        )
    return vector if vector.dtype in (np.float16, np.float32) else vector.astype(np.float32)


def _matrix(vectors: Sequence[NDArray[Any] | None], ids: Sequence[str], dim: int) -> NDArray[Any]:
    """Vectors on top of each other, NaN where there is none."""
    for row_id, vector in zip(ids, vectors, strict=True):
        if vector is not None and len(vector) != dim:
            raise InvalidRequest(f"row {row_id!r}: its embedding has {len(vector)} floats, others have {dim}")
    half = all(vector is None or vector.dtype == np.float16 for vector in vectors)
    matrix = np.full((len(vectors), dim), np.nan, np.float16 if half else np.float32)
    for index, vector in enumerate(vectors):
        if vector is not None:
            matrix[index] = vector
    return matrix
