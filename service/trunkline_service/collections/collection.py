"""One collection: rows in; rows, batches and matrices out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections import partial, reading, writing
from trunkline_service.collections.checks import check_decode, check_space
from trunkline_service.collections.exchange import exporting
from trunkline_service.collections.filters import bind
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.handle import Handle
from trunkline_service.collections.info import CollectionInfo, count_rows
from trunkline_service.collections.known import COLUMNS as KNOWN_COLUMNS
from trunkline_service.collections.known import Known
from trunkline_service.collections.lifecycle import Lifecycle
from trunkline_service.collections.matrix import EmbeddingMatrix, read_matrix, read_row_ids
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.nearest import StoredVectors
from trunkline_service.collections.partial import Touched
from trunkline_service.collections.rows import Label, Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import RowNotFound

_NAMED_IDS = 5
_KNOWN_BATCH = 8192


class Revision(NamedTuple):
    """One state of one collection.

    Attributes:
        uid: The collection's, which a later one of the same name does not share.
        version: Grows by at least one with every write.
    """

    uid: str
    version: int


class Collection(Lifecycle):
    """A collection, opened by :class:`CollectionStore`; safe to share among threads.

    Every method opens the dataset at its latest version (some tens of microseconds), so it sees
    what any process committed before the call, and reads all of one version. Every method raises
    ``CollectionNotFound`` where the collection was dropped and ``StorageError`` where the store
    can't be read or written.

    A condition (``where``) is SQL over the columns, e.g. ``label = ? AND split IS NULL``; each ``?``
    takes one of ``parameters``. One that can't be used raises ``InvalidArgument``.

    Attributes:
        name: Its name.
    """

    def __init__(
        self, handle: Handle, size: Callable[[], int], pins: Callable[[], Mapping[str, int]]
    ) -> None:
        super().__init__(handle, size, pins)
        self.name = handle.name

    @property
    def key(self) -> str:
        """Tells collections of several stores apart."""
        return self._handle.uri

    @property
    def spec(self) -> CollectionSpec:
        """The identity of its vectors."""
        return self._handle.open().spec

    @property
    def metric(self) -> str:
        """How its vectors are compared, one of `METRICS`."""
        return self.spec.metric

    @property
    def version(self) -> int:
        """The latest committed version."""
        return self.revision.version

    @property
    def revision(self) -> Revision:
        """The latest committed version, and whose it is."""
        snapshot = self._handle.open()
        return Revision(snapshot.record.uid, snapshot.version)

    def at(self, version: int) -> None:
        """Makes sure that there is such a version.

        Raises:
            InvalidArgument: There is none (any more).
        """
        self._handle.open(version)

    def columns(self, version: int | None = None) -> dict[str, str]:
        """Every column with its type, in Arrow's words.

        Args:
            version: Instead of the latest.

        Raises:
            InvalidArgument: There is no such version (any more).
        """
        return {field.name: str(field.type) for field in self._handle.open(version).dataset.schema}

    def check_space(self, space_id: str) -> None:
        """Refuses vectors of another space.

        Raises:
            SpaceMismatch: Naming both sides.
        """
        check_space(self.name, self.spec, space_id)

    def check_decode(self, decode: str) -> None:
        """Refuses vectors of the other decode mode.

        Raises:
            DecodeModeMismatch: Naming both modes.
        """
        check_decode(self.name, self.spec, (), decode)

    # Writing -------------------------------------------------------------------------------------------

    def upsert(
        self, rows: Sequence[Row], *, space_id: str, decode: str | None, allow_mixed_decode: bool = False
    ) -> int:
        """Inserts the rows, replacing those of the same ids, in one commit where columns stay as they are.

        Where an id comes twice in ``rows``, the last one wins. A commit that another writer's
        crossed is tried again on top of it. Users' columns that are new are added, null elsewhere, and a
        column of whole numbers that gets a float becomes one of floats: each of them is a version of its own,
        before that of the rows.

        Args:
            rows: Of either status; their embeddings are of shape (dim,).
            space_id: The space of their embeddings.
            decode: How their images were decoded; None where each row says so itself.
            allow_mixed_decode: Takes rows of another decode mode than the collection's.

        Returns:
            The version after the write; the latest one where there are no rows.

        Raises:
            SpaceMismatch: The collection holds vectors of another space.
            DecodeModeMismatch: The collection holds vectors of the other decode mode.
            InvalidArgument: An embedding of another dimension, a label or a value of another type,
                naming the row.
        """
        return writing.upsert(self._handle, rows, space_id, decode, allow_mixed_decode)

    def refresh(self, rows: Sequence[Row], *, space_id: str, decode: str | None) -> int:
        """As `upsert`, for rows that are there already, and without touching what people said of them.

        Label and split stay as they are, and so does every column of the users' own to which a row gives no
        value. Rows that are gone meanwhile are not inserted.
        """
        return partial.refresh(self._handle, rows, space_id, decode)

    def touch(self, touched: Sequence[Touched]) -> int:
        """Notes where rows' sources are now and how old, in one commit; gives the version after it."""
        return partial.touch(self._handle, touched)

    def relabel(self, labels: Mapping[str, Label | Scalar], column: str = "label") -> int:
        """Sets one column of the rows of these ids, in one commit; gives how many there were.

        Without any, nothing is committed.

        Args:
            labels: New values by id; None for null. Ids that have no row are passed over.
            column: ``label``, ``split``, or a column of the users' own.

        Raises:
            InvalidArgument: A column that can't be set, or a value that it can't hold.
        """
        return writing.relabel(self._handle, labels, column)

    def relabel_where(
        self,
        label: Label | Scalar,
        where: str,
        parameters: Sequence[Scalar] = (),
        column: str = "label",
    ) -> int:
        """Sets one column of all rows that a condition lets through, in one commit; gives how many.

        Without any, nothing is committed.
        """
        return writing.relabel_where(self._handle, label, _bound(where, parameters), column)

    def delete(self, ids: Sequence[str]) -> int:
        """Deletes the rows of these ids in one commit, or in none without any; gives how many there were."""
        return writing.delete(self._handle, ids)

    def delete_where(self, where: str, parameters: Sequence[Scalar] = ()) -> int:
        """Deletes all rows that a condition lets through, in one commit, or in none without any; gives how many."""
        return writing.delete_where(self._handle, _bound(where, parameters))

    # Reading -------------------------------------------------------------------------------------------

    def find(self, ids: Sequence[str], version: int | None = None) -> dict[str, Row]:
        """The rows that there are of these ids."""
        return reading.find(self._handle, ids, version)

    def get(self, ids: Sequence[str], version: int | None = None) -> list[Row]:
        """The rows of these ids, in this order.

        Raises:
            RowNotFound: Naming the ids that have no row.
        """
        found = self.find(ids, version)
        missing = [repr(row_id) for row_id in dict.fromkeys(ids) if row_id not in found]
        if missing:
            more = f" and {len(missing) - _NAMED_IDS} more" if len(missing) > _NAMED_IDS else ""
            raise RowNotFound(f"collection {self.name!r} has no row {', '.join(missing[:_NAMED_IDS])}{more}")
        return [found[row_id] for row_id in ids]

    def info(self, version: int | None = None) -> CollectionInfo:
        """The collection in numbers."""
        snapshot = self._handle.open(version)
        with self._handle.errors("read"):
            counts = count_rows(snapshot.dataset)
            size = self._size()
        return CollectionInfo(
            name=self.name,
            version=snapshot.version,
            spec=snapshot.spec,
            created_at=snapshot.record.created_at,
            rows=counts.rows,
            errors=counts.errors,
            labelled=counts.labelled,
            labels=counts.labels,
            size_bytes=size,
        )

    def matrix(
        self, where: str | None = None, version: int | None = None, parameters: Sequence[Scalar] = ()
    ) -> EmbeddingMatrix:
        """The vectors of status ``ok`` as one matrix, with their ids and labels.

        Args:
            where: A condition.
            version: Instead of the latest.
            parameters: Of the condition.

        Raises:
            InvalidArgument: A condition that can't be used, or a version that does not exist.
        """
        condition = bind(where, parameters)
        snapshot = self._handle.open(version)
        with self._handle.filter_errors(snapshot, where):
            return read_matrix(
                snapshot.dataset,
                snapshot.spec,
                snapshot.record.uid,
                condition,
                lambda: self._handle.errors("read"),
            )

    def row_ids(
        self, where: str, version: int | None = None, parameters: Sequence[Scalar] = ()
    ) -> NDArray[np.uint64]:
        """Stable row ids, uint64 (n,), of the rows of any status that a condition lets through.

        Raises:
            InvalidArgument: As :meth:`matrix`.
        """
        condition = bind(where, parameters)
        snapshot = self._handle.open(version)
        with self._handle.filter_errors(snapshot, where):
            return read_row_ids(snapshot.dataset, condition)

    def fragments(self, version: int | None = None) -> Fragments:
        """One version in the pieces that it is stored in, for who follows the collection's changes.

        Args:
            version: Instead of the latest.

        Raises:
            InvalidArgument: There is no such version (any more).
        """
        return Fragments(self._handle, self._handle.open(version))

    def stored_vectors(self, version: int | None = None) -> StoredVectors:
        """One version's vectors, for who searches them where they are stored.

        Args:
            version: Instead of the latest.

        Raises:
            InvalidArgument: There is no such version (any more).
        """
        return StoredVectors(self._handle, self._handle.open(version))

    def known(self) -> Known:
        """What a job must know of every row, of either status."""
        batches = self.scan(KNOWN_COLUMNS, batch_size=_KNOWN_BATCH)
        return Known([column.to_pylist() for column in batch.columns] for batch in batches)

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        batch_size: int = 8192,
        version: int | None = None,
        parameters: Sequence[Scalar] = (),
    ) -> Iterator[Any]:
        """Arrow record batches of at most ``batch_size`` rows, of one version, in bounded memory.

        Args:
            columns: Names of columns, in the order of the batches; None for all.
            where: A condition.
            batch_size: Rows.
            version: Instead of the latest.
            parameters: Of the condition.

        Raises:
            InvalidArgument: An unknown column or version, or a condition that can't be used.
        """
        condition = bind(where, parameters)
        return reading.scan(self._handle, self._handle.open(version), columns, condition, batch_size)

    def export_parquet(
        self,
        path: str | Path,
        include_errors: bool = True,
        *,
        since: int | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        version: int | None = None,
    ) -> int:
        """Writes rows of one version to a Parquet file, streamed; gives the number of rows.

        The file appears whole or not at all.

        Args:
            path: Replaced where it exists.
            include_errors: Keep the rows of status ``error``.
            since: Only what changed after this version, with one more column ``change``: ``upsert``, or
                ``delete`` with nulls but for the id. Rows that changed and that the other arguments leave
                out are deletes as well, so that a copy which follows the changes is as a full export.
            columns: Names of columns, in the file's order; None for all. With ``since``, the id is added.
            where: A condition.
            parameters: Of the condition.
            version: Instead of the latest.

        Raises:
            InvalidArgument: The folder of ``path`` does not exist, an unknown column or version, a
                condition that can't be used, or ``since`` as in `changes`.
        """
        condition = exporting.wanted(bind(where, parameters), include_errors)
        return exporting.export_parquet(self._handle, path, condition, columns, since, version)

    def export_npy(
        self,
        path: str | Path,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        version: int | None = None,
    ) -> int:
        """Writes the vectors of status ``ok`` as a float32 matrix in NumPy's format, and their ids beside it.

        The ids are in ``<path>.ids.txt``, one a line in the order of the vectors, or, where an id holds a
        line break, as JSON strings in ``<path>.ids.jsonl``. Both files appear whole or not at all.

        Args:
            path: Replaced where it exists.
            where: A condition.
            parameters: Of the condition.
            version: Instead of the latest.

        Returns:
            The number of rows.

        Raises:
            InvalidArgument: As `export_parquet`.
        """
        condition = exporting.wanted(bind(where, parameters), False)
        return exporting.export_npy(self._handle, path, condition, version)


def _bound(where: str, parameters: Sequence[Scalar]) -> str:
    condition = bind(where, parameters)
    assert condition is not None
    return condition
