"""One collection: rows in; rows, batches and matrices out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.boundary import storage_errors
from trunkline_service.collections.checks import check_decode, check_dimension, check_space
from trunkline_service.collections.convert import rows_to_table, table_to_rows
from trunkline_service.collections.info import CollectionInfo, bytes_on_disk, count_rows
from trunkline_service.collections.matrix import EmbeddingMatrix, read_matrix, read_row_ids
from trunkline_service.collections.parquet import write_parquet
from trunkline_service.collections.rows import Row, RowState
from trunkline_service.collections.schema import RECORD_KEY, CollectionRecord, read_record
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import (
    CollectionNotFound,
    InvalidArgument,
    RowNotFound,
)

_CONFLICT_RETRIES = 50
_CONFLICT_TIMEOUT = timedelta(minutes=2)
_IDS_PER_FILTER = 4096
_NAMED_IDS = 5


class Revision(NamedTuple):
    """One state of one collection.

    Attributes:
        uid: The collection's, which a later one of the same name does not share.
        version: Grows by at least one with every write.
    """

    uid: str
    version: int


@dataclass(frozen=True)
class _Snapshot:
    dataset: Any
    record: CollectionRecord


class Collection:
    """A collection, opened by :class:`CollectionStore`; safe to share among threads.

    Every method opens the dataset at its latest version (some tens of microseconds), so it sees
    what any process committed before the call, and reads all of one version. Every method raises
    ``CollectionNotFound`` where the collection was dropped and ``StorageError`` where the store
    can't be read or written.

    Attributes:
        name: Its name.
    """

    def __init__(self, name: str, path: Path, session: Any, clock: Callable[[], datetime]) -> None:
        self.name = name
        self._path = path
        self._session = session
        self._clock = clock

    @property
    def key(self) -> str:
        """Tells collections of several stores apart."""
        return str(self._path)

    @property
    def spec(self) -> CollectionSpec:
        """The identity of its vectors."""
        return self._open().record.spec

    @property
    def version(self) -> int:
        """The latest committed version."""
        return self.revision.version

    @property
    def revision(self) -> Revision:
        """The latest committed version, and whose it is."""
        snapshot = self._open()
        return Revision(snapshot.record.uid, snapshot.dataset.version)

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

    def upsert(
        self, rows: Sequence[Row], *, space_id: str, decode: str, allow_mixed_decode: bool = False
    ) -> int:
        """Inserts the rows, replacing those of the same ids, in one commit.

        Where an id comes twice in ``rows``, the last one wins. A commit that another writer's
        crossed is tried again on top of it.

        Args:
            rows: Of either status; their embeddings are of shape (dim,).
            space_id: The space of their embeddings.
            decode: How their images were decoded.
            allow_mixed_decode: Takes rows of another decode mode than the collection's.

        Returns:
            The version after the write; the latest one where there are no rows.

        Raises:
            SpaceMismatch: The collection holds vectors of another space.
            DecodeModeMismatch: The collection holds vectors of the other decode mode.
            InvalidArgument: An embedding of another dimension, naming the row.
        """
        snapshot = self._open()
        spec = snapshot.record.spec
        check_space(self.name, spec, space_id)
        if not allow_mixed_decode:
            check_decode(self.name, spec, rows, decode)
        check_dimension(self.name, spec, rows)
        if not rows:
            return int(snapshot.dataset.version)
        unique = list({row.id: row for row in rows}.values())
        with storage_errors(self.name, "written"):
            table = rows_to_table(unique, spec.dim, self._clock())
            merge = snapshot.dataset.merge_insert("id")
            merge = merge.when_matched_update_all().when_not_matched_insert_all()
            _with_retries(merge).execute(table)
            return int(snapshot.dataset.version)

    def delete(self, ids: Sequence[str]) -> int:
        """Deletes the rows of these ids in one commit; gives how many there were."""
        if not ids:
            return 0
        import pyarrow as pa

        snapshot = self._open()
        with storage_errors(self.name, "written"):
            key = pa.schema([snapshot.dataset.schema.field("id")])
            merge = snapshot.dataset.merge_insert("id").when_matched_delete()
            counts = _with_retries(merge).execute(pa.table({"id": sorted(set(ids))}, schema=key))
            return int(counts["num_deleted_rows"])

    def find(self, ids: Sequence[str]) -> dict[str, Row]:
        """The rows that there are of these ids."""
        dataset = self._open().dataset
        found: dict[str, Row] = {}
        wanted = list(dict.fromkeys(ids))
        with storage_errors(self.name, "read"):
            for start in range(0, len(wanted), _IDS_PER_FILTER):
                part = wanted[start : start + _IDS_PER_FILTER]
                found |= {row.id: row for row in table_to_rows(dataset.to_table(filter=_id_filter(part)))}
        return found

    def get(self, ids: Sequence[str]) -> list[Row]:
        """The rows of these ids, in this order.

        Raises:
            RowNotFound: Naming the ids that have no row.
        """
        found = self.find(ids)
        missing = [repr(row_id) for row_id in dict.fromkeys(ids) if row_id not in found]
        if missing:
            more = f" and {len(missing) - _NAMED_IDS} more" if len(missing) > _NAMED_IDS else ""
            raise RowNotFound(f"collection {self.name!r} has no row {', '.join(missing[:_NAMED_IDS])}{more}")
        return [found[row_id] for row_id in ids]

    def info(self) -> CollectionInfo:
        """The collection in numbers."""
        snapshot = self._open()
        with storage_errors(self.name, "read"):
            counts = count_rows(snapshot.dataset)
            size = bytes_on_disk(self._path)
        return CollectionInfo(
            name=self.name,
            version=snapshot.dataset.version,
            spec=snapshot.record.spec,
            created_at=snapshot.record.created_at,
            rows=counts.rows,
            errors=counts.errors,
            labelled=sum(counts.labels.values()),
            labels=counts.labels,
            size_bytes=size,
        )

    def matrix(self, where: str | None = None, version: int | None = None) -> EmbeddingMatrix:
        """The vectors of status ``ok`` as one matrix, with their ids and labels.

        Args:
            where: An SQL condition over the columns, e.g. ``label = 'rose' and split is null``.
            version: Instead of the latest.

        Raises:
            InvalidArgument: A condition that can't be used, or a version that does not exist.
        """
        snapshot = self._open(version)
        with self._filter_errors(snapshot, where):
            record = snapshot.record
            return read_matrix(snapshot.dataset, record.spec, record.uid, _enclosed(where))

    def row_ids(self, where: str, version: int | None = None) -> NDArray[np.uint64]:
        """Stable row ids, uint64 (n,), of the rows of any status that a condition lets through.

        Raises:
            InvalidArgument: As :meth:`matrix`.
        """
        snapshot = self._open(version)
        with self._filter_errors(snapshot, where):
            return read_row_ids(snapshot.dataset, _enclosed(where))

    def states(self) -> dict[str, RowState]:
        """What a job must know of every row, of either status, by id."""
        states: dict[str, RowState] = {}
        for batch in self.scan(["id", "status", "size", "mtime", "content_hash"]):
            ids, *columns = (column.to_pylist() for column in batch.columns)
            states.update(zip(ids, map(RowState._make, zip(*columns, strict=True)), strict=True))
        return states

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        batch_size: int = 8192,
    ) -> Iterator[Any]:
        """Arrow record batches of at most ``batch_size`` rows, of one version, in bounded memory.

        Args:
            columns: Names of columns, in the order of the batches; None for all.
            where: An SQL condition, as in :meth:`matrix`.
            batch_size: Rows.

        Raises:
            InvalidArgument: An unknown column, or a condition that can't be used.
        """
        return self._scan(self._open(), columns, where, batch_size)

    def export_parquet(self, path: str | Path, include_errors: bool = True) -> int:
        """Writes every column of one version to a Parquet file, streamed; gives the number of rows.

        The file appears whole or not at all.

        Args:
            path: Replaced where it exists.
            include_errors: Keep the rows of status ``error``.

        Raises:
            InvalidArgument: The folder of ``path`` does not exist.
        """
        target = Path(path)
        if not target.parent.is_dir():
            raise InvalidArgument(f"can't export to {str(path)!r}: there is no folder {str(target.parent)!r}")
        snapshot = self._open()
        record = {RECORD_KEY: snapshot.record.to_json().encode()}
        schema = snapshot.dataset.schema.with_metadata(record)
        batches = self._scan(snapshot, None, None if include_errors else "status = 'ok'", 8192)
        with storage_errors(self.name, f"exported to {str(path)!r}"):
            return write_parquet(target, schema, (batch.replace_schema_metadata(record) for batch in batches))

    def _scan(
        self, snapshot: _Snapshot, columns: Sequence[str] | None, where: str | None, batch_size: int
    ) -> Iterator[Any]:
        known = snapshot.dataset.schema.names
        unknown = [name for name in columns or () if name not in known]
        if unknown:
            raise InvalidArgument(
                f"collection {self.name!r} has no column {unknown[0]!r}; the columns are {', '.join(known)}"
            )
        with self._filter_errors(snapshot, where):
            scanner = snapshot.dataset.scanner(
                columns=list(columns or known), filter=_enclosed(where), batch_size=batch_size
            )
            # Planning finds what is wrong with a condition now, and not when the first batch is asked for.
            scanner.explain_plan()

        def batches() -> Iterator[Any]:
            with self._filter_errors(snapshot, where):
                yield from scanner.to_batches()

        return batches()

    def _open(self, version: int | None = None) -> _Snapshot:
        import lance

        with storage_errors(self.name, "read"):
            dataset: Any = lance.dataset(self._path, session=self._session)
            record = read_record(dataset.schema.metadata, self.name)
            if version is None or version == dataset.version:
                return _Snapshot(dataset, record)
            absent = f"collection {self.name!r} has no version {version}; the latest is {dataset.version}"
            if not 1 <= version < dataset.version:
                raise InvalidArgument(absent)
            try:
                with storage_errors(self.name, "read"):
                    return _Snapshot(dataset.checkout_version(version), record)
            except CollectionNotFound as exc:
                raise InvalidArgument(absent) from exc

    def _filter_errors(self, snapshot: _Snapshot, where: str | None) -> Any:
        columns = ", ".join(snapshot.dataset.schema.names)
        return storage_errors(self.name, "read", where=where, columns=columns)


def _with_retries(merge: Any) -> Any:
    return merge.conflict_retries(_CONFLICT_RETRIES).retry_timeout(_CONFLICT_TIMEOUT)


def _enclosed(where: str | None) -> str | None:
    # Lance reads one expression and drops what follows it: "label = 'a' adn split = 'b'" would
    # silently mean its first half. Inside parentheses it is a syntax error.
    return None if where is None else f"({where}\n)"


def _id_filter(ids: Sequence[str]) -> str:
    quoted = ",".join("'" + row_id.replace("'", "''") + "'" for row_id in ids)
    return f"id IN ({quoted})"
