"""Collections by name, in one data folder."""

from __future__ import annotations

import difflib
import shutil
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from trunkline_service.collections.boundary import storage_errors
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.names import check_name, is_name
from trunkline_service.collections.schema import CollectionRecord, arrow_schema
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import CollectionNotFound, FailedPrecondition, InvalidArgument

_SUFFIX = ".lance"
_CACHE_BYTES = 128 * 1024 * 1024
_NAMED = 5


def _now() -> datetime:
    return datetime.now(UTC)


class CollectionStore:
    """The collections of one data folder, ``<data>/collections/<name>.lance``; safe to share among threads.

    Args:
        data: The data folder; it need not exist yet.
        clock: Gives the moment of a write, with a time zone.

    Raises:
        InvalidArgument: ``data`` is a URI.
    """

    def __init__(self, data: str | Path, clock: Callable[[], datetime] = _now) -> None:
        if "://" in str(data):
            raise InvalidArgument(f"data is {str(data)!r}; collections can be kept in a local folder only")
        self._root = Path(data).absolute() / "collections"
        self._clock = clock

    def names(self) -> list[str]:
        """The collections' names, sorted."""
        with storage_errors("*", "listed"):
            if not self._root.is_dir():
                return []
            stems = (entry.name.removesuffix(_SUFFIX) for entry in self._root.glob(f"*{_SUFFIX}"))
            return sorted(name for name in stems if is_name(name) and self._exists(name))

    def open(self, name: str) -> Collection:
        """The collection of this name.

        Raises:
            CollectionNotFound: There is none; names those that are spelled nearly so.
            StorageError: A newer Trunkline, or something else, wrote it.
            InvalidArgument: Not a collection's name.
        """
        collection = self._handle(name)
        if not self._exists(name):
            raise self._not_found(name)
        collection.revision  # noqa: B018  refuses what can't be read
        return collection

    def create(self, name: str, spec: CollectionSpec) -> Collection:
        """A new, empty collection. Of several creators at once, one succeeds.

        Raises:
            FailedPrecondition: There is one of this name already.
            InvalidArgument: Not a collection's name.
        """
        collection = self._handle(name)
        if not self._write_empty(name, spec):
            raise FailedPrecondition(
                f"there already is a collection {name!r}; drop it, or choose another name"
            )
        return collection

    def open_or_create(self, name: str, spec: CollectionSpec) -> Collection:
        """The collection of this name, created where there is none; creators at once all get the same.

        Raises:
            SpaceMismatch: There is one, of another space.
            InvalidArgument: Not a collection's name.
        """
        collection = self._handle(name)
        if not self._exists(name):
            self._write_empty(name, spec)
        collection.check_space(spec.space_id)
        return collection

    def drop(self, name: str) -> None:
        """Deletes a collection with all of its versions. It vanishes at once, its bytes a moment later.

        Raises:
            CollectionNotFound: There is none.
            InvalidArgument: Not a collection's name.
        """
        check_name(name)
        if not self._exists(name):
            raise self._not_found(name)
        # No collection's name begins with a dot, so half-deleted files are nobody's collection.
        grave = self._root / f".dropped-{uuid.uuid4().hex}"
        with storage_errors(name, "dropped"):
            try:
                self._path(name).rename(grave)
            except FileNotFoundError as exc:
                raise self._not_found(name) from exc
            shutil.rmtree(grave)

    @cached_property
    def _session(self) -> Any:
        import lance

        session = lance.Session  # type: ignore[attr-defined]  # a public name that `lance` only imports
        return session(index_cache_size_bytes=_CACHE_BYTES, metadata_cache_size_bytes=_CACHE_BYTES)

    def _handle(self, name: str) -> Collection:
        return Collection(check_name(name), self._path(name), self._session, self._clock)

    def _path(self, name: str) -> Path:
        return self._root / f"{name}{_SUFFIX}"

    def _exists(self, name: str) -> bool:
        """Whether there is a version of it; a folder alone is none."""
        return any((self._path(name) / "_versions").glob("*.manifest"))

    def _write_empty(self, name: str, spec: CollectionSpec) -> bool:
        """Makes the collection, whole; False where there is one already.

        Not by Lance's own ``mode="create"`` in place: of creators at once, it lets the second
        overwrite what the first made, rows and all. A rename onto a folder that is not empty
        fails, so exactly one of them succeeds.
        """
        import lance

        record = CollectionRecord(spec, uid=uuid.uuid4().hex, created_at=self._clock().isoformat())
        empty = arrow_schema(spec.dim, record).empty_table()
        cradle = self._root / f".creating-{record.uid}"
        with storage_errors(name, "created"):
            try:
                lance.write_dataset(empty, cradle, mode="create", enable_stable_row_ids=True)
                cradle.rename(self._path(name))
            except OSError:
                if self._exists(name):
                    return False
                raise
            finally:
                shutil.rmtree(cradle, ignore_errors=True)
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
