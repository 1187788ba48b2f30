"""Upkeep of a collection: small files merged, old versions removed, and what it takes on disk.

No index on the ids is ever made, so there is none to keep up to date: `merging` says what it would do.
Lance's index of the vectors needs no upkeep here: row ids stay, so what it holds stays right, and pieces that
it covers are merged with each other and not with younger ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TypeVar

from trunkline_service.collections.handle import Handle, Snapshot
from trunkline_service.errors import InvalidArgument

KEPT = timedelta(days=7)
"""How long old versions stay readable, unless the caller says otherwise."""
_ATTEMPTS = 20
_CONFLICT = re.compile(r"conflict|contention|too many concurrent|incompatible transaction", re.IGNORECASE)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Compacted:
    """What `Collection.compact` did.

    Attributes:
        version: The latest version after it.
        fragments_before: Pieces that the rows were stored in.
        fragments_after: The same, after it.
        versions_removed: Old versions that can no longer be read.
        bytes_freed: In the store.
    """

    version: int
    fragments_before: int
    fragments_after: int
    versions_removed: int
    bytes_freed: int


@dataclass(frozen=True)
class Stats:
    """How a collection is stored, in numbers that are cheap to get.

    Attributes:
        fragments: Pieces that the rows are stored in; many small ones make reading slow.
        deleted_rows: Rows that are marked as deleted, and still take room.
        versions: Versions that can be read.
        bytes: In the store, of all versions together.
        columns: Every column with its type, in Arrow's words.
    """

    fragments: int
    deleted_rows: int
    versions: int
    bytes: int
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Removed:
    """Old versions that were removed, and what that freed."""

    versions: int = 0
    bytes: int = 0


def compact(handle: Handle, keep: timedelta | None, pins: Collection[int]) -> Compacted:
    """See `Collection.compact`.

    Args:
        handle: The collection.
        keep: How long versions stay, from when another took their place; None for ever.
        pins: Versions that stay for other reasons than a tag.
    """
    if keep is not None and keep < timedelta(0):
        raise InvalidArgument(f"keep is {keep}; it can be zero or more")
    before = len(handle.open().dataset.get_fragments())
    retried(handle, "compacted", lambda snapshot: snapshot.dataset.optimize.compact_files())
    removed = Removed()
    if keep is not None:
        removed = remove_versions(handle, _superseded_before(handle, keep) - set(pins))
    snapshot = handle.open()
    fragments = len(snapshot.dataset.get_fragments())
    return Compacted(snapshot.version, before, fragments, removed.versions, removed.bytes)


def stats(handle: Handle, size: Callable[[], int]) -> Stats:
    """See `Collection.stats`."""
    snapshot = handle.open()
    with handle.errors("read"):
        counted = snapshot.dataset.stats.dataset_stats()
        return Stats(
            fragments=counted["num_fragments"],
            deleted_rows=counted["num_deleted_rows"],
            versions=len(snapshot.dataset.version_refs()),
            bytes=size(),
            columns={field.name: str(field.type) for field in snapshot.dataset.schema},
        )


def remove_versions(handle: Handle, versions: Collection[int], *, exclusive: bool = False) -> Removed:
    """Removes those of the versions that are neither the latest nor tagged, behind a fence.

    Args:
        handle: The collection.
        versions: The latest among them stays, unless ``exclusive`` puts the fence on top of it.
        exclusive: No one else is writing: files that no version refers to go too, however young.
    """
    # Files of no version may lie beside the only one that there is.
    if not exclusive and not set(versions) - {handle.open().version}:
        return Removed()
    latest = retried(handle, "cleaned up", _fence)
    with handle.errors("cleaned up"):
        removed = handle.open().dataset.cleanup_old_versions(
            versions=sorted(set(versions) - {latest}),
            error_if_tagged_old_versions=False,
            delete_unverified=exclusive,
        )
        return Removed(int(removed.old_versions), int(removed.bytes_removed))


def retried(handle: Handle, action: str, change: Callable[[Snapshot], _Result]) -> _Result:
    """Applies a change to the latest version, again where another writer's commit crossed it.

    Raises:
        StorageError: Others kept committing first.
    """
    for _ in range(_ATTEMPTS - 1):
        snapshot = handle.open()
        with handle.errors(action):
            try:
                return change(snapshot)
            except (OSError, ValueError, RuntimeError) as exc:
                if not _CONFLICT.search(str(exc)):
                    raise
    snapshot = handle.open()
    with handle.errors(action):
        return change(snapshot)


def _fence(snapshot: Snapshot) -> int:
    """Commits what is there once more, such that no write that began before it can end after it.

    A writer looks for conflicts in the commits since the version it began at, as far as they are still
    there: with some of them removed, two writers of one new id each insert it (seen here within
    seconds). This commit stays, and conflicts with every kind of write, which then begins anew on top
    of it; it fails itself where another commit came first.

    Returns:
        Its version.
    """
    import lance

    pieces = [piece.metadata for piece in snapshot.dataset.get_fragments()]
    same = lance.LanceOperation.Merge(pieces, snapshot.dataset.lance_schema)
    fenced = lance.LanceDataset.commit(snapshot.dataset, same, read_version=snapshot.version, max_retries=0)
    return int(fenced.version)


def _superseded_before(handle: Handle, keep: timedelta) -> set[int]:
    """Versions that another one took the place of, ``keep`` ago or earlier.

    Not by their own age: of a collection that rested for a month, the version that was the latest until
    now is the one that everyone knows.
    """
    now = handle.clock()
    with handle.errors("compacted"):
        found = sorted(handle.open().dataset.versions(), key=lambda item: int(item["version"]))
    ends = [*(item["timestamp"].astimezone(UTC) for item in found[1:]), now]
    return {item["version"] for item, end in zip(found, ends, strict=True) if end <= now - keep}
