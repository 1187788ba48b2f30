"""A version of a collection in the pieces that Lance stores it in, for who follows its changes.

A write makes new fragments, and marks rows as deleted in old ones; a fragment that neither has happened to
is the same in two versions, and so are its rows. Lance keeps for every row an internal id, which stays
through upserts of the same ``id`` and through compaction, and the version that last wrote it. The pair of
the two says which content a row has, whatever fragment it lies in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.convert import valid_vectors
from trunkline_service.collections.handle import Handle, Snapshot
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import InvalidArgument

UPDATED = "_row_last_updated_at_version"
_OK = "status = 'ok'"
_TEXTS = ("id", "label", "source")
_STAMP_ROWS = 65_536


class Stamps(NamedTuple):
    """Which rows lie in fragments, and which content they have.

    Attributes:
        row_ids: uint64 (n,), stable.
        written: uint64 (n,), the version that last wrote each.
        fragment: int32 (n,), positions in `Fragments.keys`.
    """

    row_ids: NDArray[np.uint64]
    written: NDArray[np.uint64]
    fragment: NDArray[np.int32]

    def only(self, at: NDArray[Any]) -> Stamps:
        """Those at positions (n,), or where a mask (n,) is true."""
        return Stamps(self.row_ids[at], self.written[at], self.fragment[at])


class FragmentRows(NamedTuple):
    """Rows of status ``ok``.

    Attributes:
        stamps: Of the n rows.
        embeddings: float32 (n, dim), as they are stored.
        ids: Arrow large-string array.
        labels: The same with nulls, or of lists of strings where the collection is multi-label.
        sources: Arrow large-string array.
    """

    stamps: Stamps
    embeddings: NDArray[np.float32]
    ids: Any
    labels: Any
    sources: Any


@dataclass(frozen=True, eq=False)
class Fragments:
    """The fragments of one version; rows are read when they are asked for.

    Reading raises ``StorageError`` where the version was removed meanwhile: open the collection anew.

    Attributes:
        handle: The collection.
        snapshot: The version.
    """

    handle: Handle
    snapshot: Snapshot

    @property
    def uid(self) -> str:
        """The collection's, which a later one of the same name does not share."""
        return self.snapshot.record.uid

    @property
    def version(self) -> int:
        """The version that is read."""
        return self.snapshot.version

    @property
    def spec(self) -> CollectionSpec:
        """The identity of the vectors."""
        return self.snapshot.spec

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """A key for each fragment; another one once its rows, their values or their deletions change."""
        with self.handle.errors("read"):
            return tuple(_key(piece) for piece in self._pieces)

    @cached_property
    def _pieces(self) -> list[Any]:
        return list(self.snapshot.dataset.get_fragments())

    def count(self) -> int:
        """Rows of either status: at least as many as `batches` gives."""
        with self.handle.errors("read"):
            return int(self.snapshot.dataset.count_rows())

    def stamps(self, keys: Sequence[str] | None = None) -> Stamps:
        """The stamps of the rows of status ``ok``.

        Args:
            keys: Of the fragments to read; None for all.
        """
        parts = [self._stamps_of(batch) for batch in self._scan([UPDATED], keys, _OK, _STAMP_ROWS)]
        return joined_stamps(parts)

    def batches(
        self, keys: Sequence[str] | None = None, written_since: int = 0, batch_rows: int = 8192
    ) -> Iterator[FragmentRows]:
        """The rows of status ``ok``, in the order of the fragments.

        Args:
            keys: Of the fragments to read; None for all.
            written_since: Only rows that this version or a later one wrote.
            batch_rows: The most rows of a batch.
        """
        condition = f"{_OK} AND {UPDATED} >= {written_since}" if written_since else _OK
        columns = ["embedding", *_TEXTS, UPDATED]
        for batch in self._scan(columns, keys, condition, batch_rows):
            ids, labels, sources = (_large(batch.column(name)) for name in _TEXTS)
            vectors = valid_vectors(batch.column("embedding"))
            yield FragmentRows(self._stamps_of(batch), vectors, ids, labels, sources)

    def column(self, name: str) -> tuple[NDArray[np.uint64], Any]:
        """Row ids, uint64 (n,), and one column's values of the rows of status ``ok``, an Arrow array.

        Raises:
            InvalidArgument: There is no such column.
        """
        import pyarrow as pa

        schema = self.snapshot.dataset.schema
        if name not in schema.names or name == "embedding":
            raise InvalidArgument(
                f"collection {self.handle.name!r} has no column {name!r} to group by; the columns are "
                f"{', '.join(column for column in schema.names if column != 'embedding')}"
            )
        batches = list(self._scan([name], None, _OK, _STAMP_ROWS))
        row_ids = [batch.column("_rowid").to_numpy() for batch in batches]
        values = [batch.column(name) for batch in batches]
        found = pa.concat_arrays(values) if values else pa.array([], schema.field(name).type)
        return np.concatenate([np.empty(0, np.uint64), *row_ids]), found

    def _scan(
        self, columns: Sequence[str], keys: Sequence[str] | None, condition: str, batch_rows: int
    ) -> Iterator[Any]:
        wanted = None if keys is None else set(keys)
        pieces = [
            piece
            for key, piece in zip(self.keys, self._pieces, strict=True)
            if wanted is None or key in wanted
        ]
        if not pieces:
            return
        with self.handle.errors("read"):
            scanner = self.snapshot.dataset.scanner(
                columns=list(columns),
                filter=condition,
                with_row_id=True,
                with_row_address=True,
                batch_size=batch_rows,
                fragments=pieces,
            )
            for batch in scanner.to_batches():
                if batch.num_rows:
                    yield batch

    def _stamps_of(self, batch: Any) -> Stamps:
        # The upper half of a row's address is the id of its fragment.
        places = (batch.column("_rowaddr").to_numpy() >> np.uint64(32)).astype(np.int64)
        return Stamps(
            batch.column("_rowid").to_numpy(),
            batch.column(UPDATED).to_numpy(),
            self._positions[np.searchsorted(self._numbers, places)].astype(np.int32),
        )

    @cached_property
    def _positions(self) -> NDArray[np.int64]:
        numbers = np.array([piece.fragment_id for piece in self._pieces], np.int64)
        return np.argsort(numbers)

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        return np.sort(np.array([piece.fragment_id for piece in self._pieces], np.int64))


def joined_stamps(parts: Sequence[Stamps]) -> Stamps:
    """All of them, in order."""
    if not parts:
        return Stamps(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int32))
    return Stamps(
        np.concatenate([part.row_ids for part in parts]),
        np.concatenate([part.written for part in parts]),
        np.concatenate([part.fragment for part in parts]),
    )


def _key(piece: Any) -> str:
    # Lance names every file that it writes at random, so no two contents share a key, whatever is restored.
    known = piece.metadata
    files = ",".join(file.path for file in known.files)
    return f"{files};{piece.deletion_file() or ''};{known.overlays or ''}"


def _large(column: Any) -> Any:
    import pyarrow as pa

    kind = pa.large_list(pa.large_utf8()) if pa.types.is_list(column.type) else pa.large_utf8()
    return column.cast(kind)
