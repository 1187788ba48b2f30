"""The life of a collection: its versions, tags and changes, its upkeep, and true deletion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from trunkline_service.collections import changes, history, purging, upkeep, vector_index
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

    def fragment_count(self) -> int:
        """How many pieces its rows lie in; each write adds one, `compact` merges them."""
        return len(self._handle.open().dataset.get_fragments())

    def create_vector_index(
        self,
        partitions: int | None = None,
        sub_vectors: int | None = None,
        progress: Callable[[str, float], None] = lambda *_: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> vector_index.VectorIndex:
        """Makes Lance's own index (IVF-PQ) of the vectors, in the place of the one there is, as a new version.

        It is stored with the collection and read from there. Writers and readers may be at work; rows that are
        written meanwhile or later are found as well, being compared one by one until it is made again.

        Args:
            partitions: Of IVF; None for the square root of the rows.
            sub_vectors: Bytes of a row in the index, a divisor of the dimension; None for a quarter of the
                dimension or so.
            progress: Told the phase and the share of it that is done, 0..1.
            cancelled: Asked now and then; an index that is written by then stays.

        Raises:
            NotEnoughData: Fewer than 256 rows with a vector.
            InvalidArgument: ``partitions`` or ``sub_vectors`` that can't be.
            Cancelled: ``cancelled`` said so; nothing was changed.
            StorageError: It can't be written, or others kept compacting first.
        """
        return vector_index.create(self._handle, partitions, sub_vectors, progress, cancelled)

    def drop_vector_index(self) -> bool:
        """Takes Lance's index away, as a new version; says whether there was one."""
        return vector_index.drop(self._handle)

    def vector_index(self, version: int | None = None) -> vector_index.VectorIndex | None:
        """Lance's index of the vectors, as a version sees it; None where it has none.

        Raises:
            InvalidArgument: There is no such version (any more).
        """
        return vector_index.describe(self._handle, self._handle.open(version))

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
