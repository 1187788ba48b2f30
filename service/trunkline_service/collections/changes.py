"""What changed in a collection since an earlier version: for systems that keep a copy of it.

Lance notes for every row the version that last wrote it, and keeps a row's internal id through every
write and compaction. So a pair of the two says which content a row has, and comparing the pairs of two
versions is enough: 16 bytes a row (about 40 for the moment of sorting them), and no vector is read of a
row that stayed as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.handle import Handle, Snapshot
from trunkline_service.collections.reading import existing_ids, scan
from trunkline_service.errors import InvalidArgument

_UPDATED = "_row_last_updated_at_version"
_CREATED = "_row_created_at_version"
_BATCH_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class Changes:
    """What was inserted, changed and deleted between two versions; rows are read when they are asked for.

    Attributes:
        since: The earlier version.
        version: The later one.
    """

    since: int
    version: int
    _handle: Handle
    _before: Snapshot
    _after: Snapshot
    _gone: NDArray[np.uint64]

    @property
    def condition(self) -> str:
        """Lets the rows of ``version`` through that were inserted or changed."""
        return f"({_UPDATED} > {self.since})"

    def upserted(self, columns: Sequence[str] | None = None, batch_size: int = 8192) -> Iterator[Any]:
        """Arrow record batches of the rows that were inserted or changed, as they are at ``version``.

        Args:
            columns: Names of columns; None for all.
            batch_size: Rows.

        Raises:
            InvalidArgument: An unknown column.
        """
        return scan(self._handle, self._after, columns, self.condition, batch_size)

    def deleted(self) -> Iterator[list[str]]:
        """Ids of the rows of ``since`` that are no longer there, in lists of bounded length."""
        if not len(self._gone):
            return
        reborn = _created_since(self._handle, self._after, self.since)
        with self._handle.errors("read"):
            scanner = self._before.dataset.scanner(columns=["id"], with_row_id=True, batch_size=_BATCH_ROWS)
            for batch in scanner.to_batches():
                gone = _contains(self._gone, batch.column("_rowid").to_numpy())
                ids = [name for name, left in zip(batch.column("id").to_pylist(), gone, strict=True) if left]
                # Deleted and inserted again: a new row of the same id, which is no deletion.
                doubtful = [
                    name for name, new in zip(ids, _contains(reborn, _hashes(ids)), strict=True) if new
                ]
                back = existing_ids(self._after, doubtful)
                if found := [name for name in ids if name not in back]:
                    yield found


def changes(handle: Handle, since: int, version: int | None = None) -> Changes:
    """See `Collection.changes`; up to the latest version, or to ``version``."""
    try:
        before = handle.open(since)
    except InvalidArgument as exc:
        raise InvalidArgument(f"{exc.message}; what changed since can't be told: export in full") from exc
    after = handle.open(version)
    if after.version < since:
        raise InvalidArgument(f"version {after.version} is older than {since}; swap them")
    with handle.errors("read"):
        gone = _gone(handle.name, before, after)
    return Changes(since, after.version, handle, before, after, gone)


def _gone(name: str, before: Snapshot, after: Snapshot) -> NDArray[np.uint64]:
    """Sorted row ids of ``before`` that ``after`` does not have."""
    ids, written = _pairs(before)
    seen = np.zeros(len(ids), bool)
    for batch in _scan(after, [_UPDATED, _CREATED]):
        now = batch.column("_rowid").to_numpy()
        updated, created = batch.column(_UPDATED).to_numpy(), batch.column(_CREATED).to_numpy()
        found = _positions(ids, now)
        there = found >= 0
        seen[found[there]] = True
        same = np.zeros(len(now), bool)
        same[there] = written[found[there]] == updated[there]
        # A row as it was written long ago, and was not at `before`, came back with an older version.
        if ((updated <= before.version) & ~same).any() or (there & (created > before.version)).any():
            raise InvalidArgument(
                f"collection {name!r} was set back to an older version after version {before.version}; what "
                "changed since can't be told: export in full"
            )
    return ids[~seen]


def _pairs(snapshot: Snapshot) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Row ids, sorted, and the version that last wrote each."""
    batches = list(_scan(snapshot, [_UPDATED]))
    if not batches:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    ids = np.concatenate([batch.column("_rowid").to_numpy() for batch in batches])
    written = np.concatenate([batch.column(_UPDATED).to_numpy() for batch in batches])
    order = np.argsort(ids)
    return ids[order], written[order]


def _created_since(handle: Handle, snapshot: Snapshot, since: int) -> NDArray[np.int64]:
    """Sorted 64-bit hashes of the ids of the rows that were inserted after a version."""
    batches = scan(handle, snapshot, ["id"], f"({_CREATED} > {since})", _BATCH_ROWS)
    found = [_hashes(batch.column("id").to_pylist()) for batch in batches]
    return np.sort(np.concatenate([np.empty(0, np.int64), *found]))


def _hashes(ids: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), np.int64, len(ids))


def _scan(snapshot: Snapshot, columns: Sequence[str]) -> Iterator[Any]:
    scanner = snapshot.dataset.scanner(columns=list(columns), with_row_id=True, batch_size=_BATCH_ROWS)
    yield from scanner.to_batches()


def _positions(values: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.int64]:
    """Where each wanted value is among the sorted ones; -1 where it is not."""
    if not len(values):
        return np.full(len(wanted), -1, np.int64)
    found = np.minimum(np.searchsorted(values, wanted), len(values) - 1).astype(np.int64)
    return np.where(values[found] == wanted, found, -1)


def _contains(values: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = _positions(values, wanted) >= 0
    return found
