"""A Lance dataset by name and address: opened at a version, its errors translated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from trunkline_service.collections.boundary import storage_errors
from trunkline_service.collections.schema import CollectionRecord, read_record
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import CollectionNotFound, InvalidArgument

CONFLICT_RETRIES = 50
CONFLICT_TIMEOUT = timedelta(minutes=2)


@dataclass(frozen=True)
class Snapshot:
    """A dataset at one version.

    Attributes:
        dataset: Lance's. A write through it moves it on to the version that was written.
        record: What it says of itself.
    """

    dataset: Any
    record: CollectionRecord

    @property
    def spec(self) -> CollectionSpec:
        """The identity of its vectors."""
        return self.record.spec

    @property
    def version(self) -> int:
        """The version it is open at."""
        return int(self.dataset.version)


@dataclass(frozen=True)
class Handle:
    """Where a collection is, and how to open it.

    Attributes:
        name: The collection's.
        uri: Of its dataset.
        session: Lance's caches.
        clock: Gives the moment of a write, with a time zone.
    """

    name: str
    uri: str
    session: Any
    clock: Callable[[], datetime]

    def open(self, version: int | None = None) -> Snapshot:
        """The dataset at its latest version, or at ``version``.

        Raises:
            CollectionNotFound: It is not there.
            InvalidArgument: There is no such version (any more).
            StorageError: It can't be read.
        """
        import lance

        with self.errors("read"):
            dataset: Any = lance.dataset(self.uri, session=self.session)
            record = read_record(dataset.schema.metadata, self.name)
            if version is None or version == dataset.version:
                return Snapshot(dataset, record)
            absent = f"collection {self.name!r} has no version {version} (any more); the latest is {dataset.version}"
            if not 1 <= version < dataset.version:
                raise InvalidArgument(absent)
            try:
                with self.errors("read"):
                    return Snapshot(dataset.checkout_version(version), record)
            except CollectionNotFound as exc:
                raise InvalidArgument(absent) from exc

    def errors(self, action: str) -> Any:
        """Translates what Lance and Arrow raise inside a ``with``."""
        return storage_errors(self.name, action)

    def filter_errors(self, snapshot: Snapshot, where: str | None) -> Any:
        """As `errors`, where a caller's condition is applied: its faults are the caller's."""
        columns = ", ".join(snapshot.dataset.schema.names)
        return storage_errors(self.name, "read", where=where, columns=columns)


def merging(snapshot: Snapshot) -> Any:
    """A merge by id that is tried again on top of what others committed meanwhile.

    Never by a scalar index on the key, which somebody may have made with other tools: with one,
    concurrent merges each insert the same new id. Seen here with pylance 14: of 6 runs of 4 writers, 2
    gave 2 to 6 rows twice; of 6 without it, none.
    """
    merge = snapshot.dataset.merge_insert("id").use_index(False)
    return merge.conflict_retries(CONFLICT_RETRIES).retry_timeout(CONFLICT_TIMEOUT)
