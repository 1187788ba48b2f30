"""Collections by name, below one data URI."""

from __future__ import annotations

import difflib
import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from trunkline_service.collections.aliases import Alias, Aliases, split_alias
from trunkline_service.collections.boundary import storage_errors
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.handle import Handle
from trunkline_service.collections.index_process import pool_threads
from trunkline_service.collections.names import check_name, is_name
from trunkline_service.collections.place import LocalPlace, open_place
from trunkline_service.collections.schema import CollectionRecord, arrow_schema
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import CollectionNotFound, FailedPrecondition, InvalidArgument
from trunkline_service.names import parse_version

_SUFFIX = ".lance"
_CACHE_BYTES = 128 * 1024 * 1024
_NAMED = 5


def _now() -> datetime:
    return datetime.now(UTC)


class Resolved(NamedTuple):
    """What a reference stands for: a collection, and a version of it or None for the latest."""

    collection: Collection
    version: int | None


class CollectionStore:
    """The collections below ``<data>/collections/<name>.lance``; safe to share among threads.

    Args:
        data: A local folder, which need not exist yet, or ``s3://``, ``gs://``, ``az://``. Credentials,
            region and endpoint are taken from the environment, under the names of the cloud's own tools.
        clock: Gives the moment of a write, with a time zone.

    Raises:
        InvalidArgument: ``data`` is a URI of another kind.
    """

    def __init__(self, data: str | Path, clock: Callable[[], datetime] = _now) -> None:
        # Before Lance is imported: where a machine has few processors, searches wait inside its pool for ever.
        os.environ.update(pool_threads(os.environ))
        self._place = open_place(data, "collections")
        self._clock = clock
        self.aliases = Aliases(self._place)

    def names(self) -> list[str]:
        """The collections' names, sorted."""
        with storage_errors("*", "listed"):
            stems = (
                entry.removesuffix(_SUFFIX) for entry in self._place.folders() if entry.endswith(_SUFFIX)
            )
            return sorted(name for name in stems if is_name(name) and self.exists(name))

    def exists(self, name: str) -> bool:
        """Whether there is a collection of this name."""
        with storage_errors(name, "read"):
            return self._place.holds(f"{check_name(name)}{_SUFFIX}")

    def open(self, name: str) -> Collection:
        """The collection of this name, or the one that an alias of this name stands for, at its latest version.

        Raises:
            CollectionNotFound: There is none; names those that are spelled nearly so.
            StorageError: A newer Trunkline, or something else, wrote it.
            InvalidArgument: Not a name, or one that stands for a fixed version, which can't be written to.
        """
        resolved = self.resolve(name)
        if resolved.version is not None:
            raise InvalidArgument(
                f"{name!r} stands for version {resolved.version} of collection {resolved.collection.name!r}, and "
                "this works on the latest; name the collection itself"
            )
        return resolved.collection

    def resolve(self, reference: str) -> Resolved:
        """What ``photos``, ``photos@7`` (a version), ``photos@prod`` (an alias or a tag) stand for.

        Raises:
            CollectionNotFound: No such collection, alias or tag.
            InvalidArgument: Not a reference, or no such version.
        """
        name, at, word = reference.partition("@")
        if not at:
            return Resolved(self._open(name), None)
        version = parse_version(word)
        if version is not None:
            collection = self._open(name)
            collection.at(version)
            return Resolved(collection, version)
        split_alias(reference)
        if (alias := self.aliases.find(reference)) is not None:
            return Resolved(self._open(alias.collection), alias.version)
        collection = self._open(name)
        if (tagged := collection.tags().get(word)) is not None:
            return Resolved(collection, tagged)
        raise CollectionNotFound(f"collection {name!r} has no alias and no tag {word!r}")

    def lookup(self, reference: str) -> Resolved:
        """As `resolve`, but of a plain name nothing is read: whether it is there, its first reader finds out.

        Raises:
            CollectionNotFound, InvalidArgument: As `resolve`, of a reference with ``@``.
        """
        return self.resolve(reference) if "@" in reference else Resolved(self._collection(reference), None)

    def set_alias(self, alias: str, collection: str, version: int | None = None) -> Alias:
        """Makes or moves an alias; readers see the old target or the new one.

        Raises:
            CollectionNotFound, InvalidArgument: What it would point to is not there.
        """
        target = self._open(collection)
        if version is not None:
            target.at(version)
        made = Alias(alias, collection, version)
        self.aliases.set(made)
        return made

    def aliases_of(self, collection: str) -> list[Alias]:
        """The aliases that stand for a collection or a version of it, by name."""
        return [alias for alias in self.aliases.all() if alias.collection == collection]

    def create(self, name: str, spec: CollectionSpec) -> Collection:
        """A new, empty collection. Of several creators at once, one succeeds.

        Raises:
            FailedPrecondition: There is one of this name already.
            InvalidArgument: Not a collection's name.
        """
        if self.exists(name) or not self._write_empty(name, spec):
            raise FailedPrecondition(
                f"there already is a collection {name!r}; drop it, or choose another name"
            )
        return self._collection(name)

    def open_or_create(self, name: str, spec: CollectionSpec) -> Collection:
        """The collection of this name, created where there is none; creators at once all get the same.

        Raises:
            SpaceMismatch: There is one, of another space.
            InvalidArgument: Not a collection's name.
        """
        if not self.exists(name):
            self._write_empty(name, spec)
        collection = self._collection(name)
        collection.check_space(spec.space_id)
        return collection

    def drop(self, name: str) -> None:
        """Deletes a collection with all of its versions. It vanishes at once, its bytes a moment later.

        Raises:
            CollectionNotFound: There is none.
            FailedPrecondition: An alias stands for it.
            InvalidArgument: Not a collection's name.
        """
        if not self.exists(name):
            raise self._not_found(name)
        if pointing := self.aliases_of(name):
            raise FailedPrecondition(
                f"alias {pointing[0].name!r} stands for collection {name!r}; move it or delete it first"
            )
        with storage_errors(name, "dropped"):
            try:
                self._place.remove(f"{name}{_SUFFIX}")
            except FileNotFoundError as exc:
                raise self._not_found(name) from exc
            if isinstance(self._place, LocalPlace):
                self._place.sweep()

    @cached_property
    def _session(self) -> Any:
        import lance

        session = lance.Session  # type: ignore[attr-defined]  # a public name that `lance` only imports
        return session(index_cache_size_bytes=_CACHE_BYTES, metadata_cache_size_bytes=_CACHE_BYTES)

    def _open(self, name: str) -> Collection:
        if not self.exists(name):
            raise self._not_found(name)
        collection = self._collection(name)
        collection.revision  # noqa: B018  refuses what can't be read
        return collection

    def _collection(self, name: str) -> Collection:
        folder = f"{check_name(name)}{_SUFFIX}"
        handle = Handle(name, self._place.uri(folder), self._session, self._clock)
        return Collection(handle, lambda: self._place.size(folder), lambda: self._pins(name))

    def _pins(self, name: str) -> dict[str, int]:
        return {alias.name: alias.version for alias in self.aliases_of(name) if alias.version is not None}

    def _write_empty(self, name: str, spec: CollectionSpec) -> bool:
        """Makes the collection, whole; False where there is one already.

        Not by Lance's ``mode="create"``: of creators at once, it lets the second overwrite what the
        first made, rows and all. A commit on top of version 0 that is not tried again is put to the
        store only if version 1 is absent, so exactly one of them succeeds, on S3 as on disk.
        """
        import lance

        record = CollectionRecord(spec, uid=uuid.uuid4().hex, created_at=self._clock().isoformat())
        empty = lance.LanceOperation.Overwrite(arrow_schema(spec, record), [])
        with storage_errors(name, "created"):
            try:
                lance.LanceDataset.commit(
                    self._place.uri(f"{name}{_SUFFIX}"),
                    empty,
                    read_version=0,
                    enable_stable_row_ids=True,
                    max_retries=0,
                )
            except OSError:
                if self.exists(name):
                    return False
                raise
        return True

    def _not_found(self, name: str) -> CollectionNotFound:
        names = self.names()
        near = difflib.get_close_matches(name, names, n=_NAMED)
        if near:
            hint = f"did you mean {', '.join(map(repr, near))}?"
        elif names:
            hint = f"there are {', '.join(map(repr, names[:_NAMED]))}{', ...' if len(names) > _NAMED else ''}"
        else:
            hint = "there are no collections yet"
        return CollectionNotFound(f"there is no collection {name!r}; {hint}")
