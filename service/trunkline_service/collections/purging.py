"""True deletion: after it, no file of the collection holds the rows.

A deletion in Lance writes a mark: the row's bytes stay in its data file, in the files of every older
version and in the index of ids, and a condition's text stays in the record of the commit. So the files
are written anew without the row, and every version that was before is removed with its files.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline_service.collections import vector_index
from trunkline_service.collections.handle import Handle, Snapshot
from trunkline_service.collections.upkeep import Removed, remove_versions, retried
from trunkline_service.collections.writing import delete, delete_where
from trunkline_service.errors import FailedPrecondition, InvalidArgument, NotEnoughData, StorageError

_log = logging.getLogger(__name__)
_OWNED = ("data/", "_deletions/", "_indices/", "_transactions/")
_NAMED = 5


@dataclass(frozen=True)
class Purged:
    """What `Collection.purge` did.

    Attributes:
        rows: Rows that the latest version had of those to be purged.
        versions_removed: Old versions that can no longer be read: all of them.
        bytes_freed: In the store.
        unowned_files: Files that are left although no version refers to them: of writers that are at
            work, or that were killed less than seven days ago. They may hold purged rows.
    """

    rows: int
    versions_removed: int
    bytes_freed: int
    unowned_files: int


def purge(
    handle: Handle,
    ids: Sequence[str] | None,
    condition: str | None,
    pins: Mapping[str, int],
    exclusive: bool,
) -> Purged:
    """See `Collection.purge`; ``condition`` is bound, ``pins`` are versions by what holds them."""
    _refuse_pinned(handle, handle.open(), pins)
    rows = delete(handle, ids or ()) if condition is None else delete_where(handle, condition)
    try:
        removed = _rewrite_all(handle, exclusive)
    except StorageError as exc:
        raise StorageError(
            f"{exc.message}. {rows} rows are deleted, but files still hold them; purge the same ids again"
        ) from exc
    snapshot = handle.open()
    # Whoever tagged meanwhile has kept the rows alive.
    _refuse_pinned(handle, snapshot, {})
    return Purged(rows, removed.versions, removed.bytes, _unowned(handle, snapshot))


def _rewrite_all(handle: Handle, exclusive: bool) -> Removed:
    retried(handle, "purged", _rewrite)
    retried(handle, "purged", lambda snapshot: _index_anew(handle, snapshot))
    with handle.errors("purged"):
        found = [item["version"] for item in handle.open().dataset.version_refs()]
    return remove_versions(handle, found, exclusive=exclusive)


def _refuse_pinned(handle: Handle, snapshot: Snapshot, pins: Mapping[str, int]) -> None:
    with handle.errors("purged"):
        tagged = {f"tag {name!r}": item["version"] for name, item in snapshot.dataset.tags.list().items()}
    holding = {**tagged, **{f"alias {name!r}": version for name, version in pins.items()}}
    if holding:
        shown = ", ".join(f"{what} (version {version})" for what, version in sorted(holding.items())[:_NAMED])
        more = f" and {len(holding) - _NAMED} more" if len(holding) > _NAMED else ""
        raise FailedPrecondition(
            f"collection {handle.name!r} can't be purged: {shown}{more} would keep old versions with the rows "
            "in them; untag it first (an alias: let it stand for the latest version, or delete it)"
        )


def _rewrite(snapshot: Snapshot) -> None:
    snapshot.dataset.optimize.compact_files(materialize_deletions=True, materialize_deletions_threshold=0.0)


def _index_anew(handle: Handle, snapshot: Snapshot) -> None:
    # Brought up to date, an index would keep the ids that it had, and the codes of vectors.
    for index in snapshot.dataset.describe_indices():
        if vector_index.is_of_vectors(index):
            _vectors_anew(handle, snapshot, index)
            continue
        (column,) = index.field_names
        snapshot.dataset.create_scalar_index(column, index.index_type.upper(), name=index.name, replace=True)


def _vectors_anew(handle: Handle, snapshot: Snapshot, index: Any) -> None:
    """Lance's index of vectors, learned again of the rows that are left, since its centres may be rows."""
    known = vector_index.describe(handle, snapshot) if index.name == vector_index.NAME else None
    if known is not None:
        try:
            partitions = vector_index.partitions_of(handle, snapshot)
            vector_index.build(handle, snapshot, partitions, known.sub_vectors)
            return
        except (NotEnoughData, InvalidArgument):
            _log.info("collection %s: too few rows are left for Lance's index; it is dropped", handle.name)
    else:
        _log.warning("collection %s: dropped index %r, which Trunkline did not make", handle.name, index.name)
    snapshot.dataset.drop_index(index.name)


def _unowned(handle: Handle, snapshot: Snapshot) -> int:
    with handle.errors("read"):
        there = {row["path"] for row in snapshot.dataset.all_files().read_all().to_pylist()}
        owned = {row["path"] for row in snapshot.dataset.tracked_files().read_all().to_pylist()}
    return sum(path.startswith(_OWNED) for path in there - owned)
