"""Rows by id that are relabelled or deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from trunkline._wire import methods
from trunkline._wire.collections import id_list, written
from trunkline._wire.portions import portions, room
from trunkline._wire.question import Question, Series
from trunkline._wire.scalars import new_value_to
from trunkline.collections import Written
from trunkline.rows import Label, Scalar
from trunkline.values import ServerInfo
from trunkline_protos.v1 import collections_pb2


class Relabel(Series[Written, Written]):
    """New values by id.

    Args:
        collection: Its name.
        changes: By id; None for null.
        column: What is set.
    """

    def __init__(self, collection: str, changes: Mapping[str, Label | Scalar], column: str) -> None:
        self._changes = changes
        self._base = collections_pb2.RelabelRequest(collection=collection, column=column)
        self._base.changes.SetInParent()

    def questions(self, info: ServerInfo) -> Iterator[Question[Written]]:
        """One a request; a single one without changes where there are none."""
        asked = False
        for items, portion in portions(self._sized(), room(info, self._base)):
            request = collections_pb2.RelabelRequest()
            request.CopyFrom(self._base)
            for row_id, value in portion:
                request.changes.values[row_id].CopyFrom(value)
            asked = True
            yield Question(methods.RELABEL, request, written, items)
        if not asked:
            yield Question(methods.RELABEL, self._base, written)

    def merge(self, answers: Sequence[Written]) -> Written:
        """All rows; the version of the last write."""
        return _together(answers)

    def _sized(self) -> Iterator[tuple[str, int, tuple[str, collections_pb2.NewValue]]]:
        for row_id in id_list(self._changes):
            message = new_value_to(self._changes[row_id], f"row {row_id!r}")
            yield (
                f"the change of row {row_id!r}",
                len(row_id.encode()) + message.ByteSize(),
                (row_id, message),
            )


class Delete(Series[Written, Written]):
    """Rows by id that go.

    Args:
        collection: Its name.
        ids: The keys.

    Raises:
        InvalidRequest: An id that is no text.
    """

    def __init__(self, collection: str, ids: str | Iterable[str]) -> None:
        self._collection = collection
        self._ids = id_list(ids)

    def questions(self, info: ServerInfo) -> Iterator[Question[Written]]:
        """One a request; a single one without ids where there are none."""
        base = collections_pb2.DeleteRowsRequest(collection=self._collection, ids=collections_pb2.Ids())
        sized = ((f"id {row_id[:40]!r}", len(row_id.encode()), row_id) for row_id in self._ids)
        for items, portion in portions(sized, room(info, base)):
            ids = collections_pb2.Ids(ids=portion)
            request = collections_pb2.DeleteRowsRequest(collection=self._collection, ids=ids)
            yield Question(methods.DELETE_ROWS, request, written, items)
        if not self._ids:
            yield Question(methods.DELETE_ROWS, base, written)

    def merge(self, answers: Sequence[Written]) -> Written:
        """All rows; the version of the last write."""
        return _together(answers)


def _together(answers: Sequence[Written]) -> Written:
    return Written(rows=sum(answer.rows for answer in answers), version=answers[-1].version)
