"""The life of a collection: its versions, tags and changes, its upkeep, and true deletion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from trunkline_service.collections import changes, history, purging, upkeep
from trunkline_service.collections.filters import bind
from trunkline_service.collections.handle import Handle
from trunkline_service.collections.metadata import Scalar
from trunkline_service.errors import InvalidArgument


class Lifecycle:
    """What `Collection` does with its versions; see there.

    Args:
        handle: Where the collection is.
        size: Gives the bytes that it takes in the store.
        pins: Gives the versions that aliases stand for, by the aliases' names.
    """

    def __init__(
        self, handle: Handle, size: Callable[[], int], pins: Callable[[], Mapping[str, int]]
    ) -> None:
        self._handle = handle
        self._size = size
        self._pins = pins

    def versions(self) -> list[history.VersionInfo]:
        """Every version that can be read, the newest first."""
        return history.versions(self._handle)

    def tags(self) -> dict[str, int]:
        """Versions by tag, sorted by tag. A tagged version stays until it is untagged."""
        return history.tags(self._handle)

    def tag(self, name: str, version: int | None = None) -> int:
        """Names a version, moving the tag where it exists; gives the version.

        ``photos@NAME`` then stands for it, unless an alias is called so.

        Args:
            name: As a collection's, but not all digits.
            version: None for the latest.

        Raises:
            InvalidArgument: Not a tag's name, or no such version.
        """
        return history.tag(self._handle, name, version)

    def untag(self, name: str) -> None:
        """Takes a tag away; the version is kept until the next `compact` that may remove it.

        Raises:
            CollectionNotFound: There is no such tag.
        """
        history.untag(self._handle, name)

    def restore(self, version: int) -> int:
        """Makes an old version the latest, as a new version; gives its number.

        What was written since stays in the versions in between. Writes that are under way fail and can
        be run again.

        Raises:
            InvalidArgument: There is no such version (any more).
        """
        return history.restore(self._handle, version)

    def changes(self, since: int) -> changes.Changes:
        """What was inserted, changed and deleted after a version, up to the latest.

        Raises:
            InvalidArgument: There is no such version (any more), or the collection was restored to one
                from before it: export in full.
        """
        return changes.changes(self._handle, since)

    def stats(self) -> upkeep.Stats:
        """How the collection is stored."""
        return upkeep.stats(self._handle, self._size)

    def fragments(self) -> int:
        """How many pieces its rows lie in; each write adds one, `compact` merges them."""
        return len(self._handle.open().dataset.get_fragments())

    def compact(self, keep: timedelta | None = upkeep.KEPT) -> upkeep.Compacted:
        """Merges small files, and removes versions that were the latest longer than ``keep`` ago.

        The latest, tagged ones, and ones that an alias stands for, stay. Ids and row ids are as before.
        Writers may be at work; readers of a version that is removed fail.

        Args:
            keep: How long a version stays readable after another one took its place; None for ever: then
                no version is removed, and nothing is freed.

        Raises:
            InvalidArgument: ``keep`` is negative.
            StorageError: Other writers kept committing first.
        """
        return upkeep.compact(self._handle, keep, self._pins().values())

    def purge(
        self,
        ids: Sequence[str] | None = None,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        *,
        exclusive: bool = False,
    ) -> purging.Purged:
        """Deletes rows such that no file of the collection holds them: all older versions go too.

        Rows that only older versions hold are purged as well: name their ids. Of a purge that failed
        half-way, run again, nothing is left.

        Args:
            ids: Of the rows; either these or a condition.
            where: A condition over the latest version's rows.
            parameters: Of the condition.
            exclusive: Promises that no one else is writing: then files of writers that were killed,
                which may hold the rows, are removed as well. Where someone is, their rows are lost.

        Raises:
            InvalidArgument: Neither ids nor a condition, or both.
            FailedPrecondition: A tag or an alias holds a version; nothing was deleted.
            StorageError: Other writers kept committing first.
        """
        if (ids is None) == (where is None):
            raise InvalidArgument("purge takes either ids or a condition (where); give one of them")
        return purging.purge(self._handle, ids, bind(where, parameters), self._pins(), exclusive)
