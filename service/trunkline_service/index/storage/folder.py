"""Indexes in a folder of this machine: the data folder itself, or the cache of an object store.

A build appears by one rename of a complete, synced folder, and vanishes by one: what is removed is moved
aside first, with whatever is being built below it, so that nobody can finish what was dropped.
"""

from __future__ import annotations

import errno
import logging
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from trunkline_service.errors import StorageError
from trunkline_service.index.storage import files
from trunkline_service.index.storage.held import held, remove_dead
from trunkline_service.index.storage.keys import LEASE, is_build, is_uid
from trunkline_service.index.storage.lease import Lease, LocalLease, is_held, ousted
from trunkline_service.names import is_name

_log = logging.getLogger(__name__)
_GRAVE = ".dropped-"


class IndexFolder:
    """Builds below ``<root>/<collection>/<uid>``. A key is ``<collection>/<uid>``, checked before it gets here.

    Every method raises ``StorageError`` where the folder can't be read or written.

    Args:
        root: The folder; it need not exist.
        pause: Waits for so many seconds.
    """

    def __init__(self, root: Path, pause: Callable[[float], None]) -> None:
        self._root = root
        self._pause = pause

    def builds(self, key: str) -> list[str]:
        """Ids of the builds, unsorted."""
        with files.disk_errors(f"{self._root / key} can't be read"):
            return [name for name in _names(self._root / key) if is_build(name)]

    def collections(self) -> list[str]:
        """Names of the collections that something is kept of, unsorted."""
        with files.disk_errors(f"{self._root} can't be read"):
            return [name for name in _names(self._root) if is_name(name)]

    def uids(self, collection: str) -> list[str]:
        """Uids of a collection that something is kept of, unsorted."""
        with files.disk_errors(f"{self._root / collection} can't be read"):
            # Beside a uid's folder stand ``<uid>.<word>``.
            stems = {name.partition(".")[0] for name in _names(self._root / collection)}
            return [stem for stem in stems if is_uid(stem)]

    def read(self, path: str) -> bytes | None:
        """A small file; None where there is none."""
        with files.disk_errors(f"{self._root / path} can't be read"):
            return files.read(self._root / path)

    def write(self, path: str, data: bytes) -> None:
        """Puts a small file, whole or not at all."""
        with files.disk_errors(f"{self._root / path} can't be written"):
            files.replace(self._root / path, data)

    def path(self, key: str, build: str) -> Path:
        """The folder of a build, be it there or not."""
        return self._root / key / build

    def held(self, key: str) -> AbstractContextManager[Path]:
        """A folder to work in, see `held.held`; what is in it is dropped with the key."""
        return held(self._root / key)

    def place(self, work: Path, key: str, build: str) -> None:
        """Moves a complete folder, made by `held`, to where the build is looked for.

        Raises:
            FailedPrecondition: The key was dropped meanwhile.
        """
        collection = key.partition("/")[0]
        with files.disk_errors(f"index {build} of collection {collection!r} can't be stored in {self._root}"):
            try:
                files.sync(work)
                work.rename(self.path(key, build))
            except FileNotFoundError as exc:
                raise ousted(collection) from exc
            except OSError as exc:
                # Another process fetched the same build at the same time.
                if exc.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            for folder in (self._root / key, self._root / collection, self._root):
                files.sync(folder)

    def remove(self, path: str) -> None:
        """Deletes a build, all of a key, or all of a collection; it vanishes at once, and its bytes next.

        Raises:
            StorageError: Something of the collection can't be deleted: what is left holds rows, and is tried
                again at the next removal.
        """
        collection = path.partition("/")[0]
        with files.disk_errors(f"{self._root / path} can't be deleted"):
            try:
                (self._root / path).rename(self._root / f"{_GRAVE}{collection}-{secrets.token_hex(8)}")
            except FileNotFoundError:
                pass
            else:
                files.sync((self._root / path).parent)
            self._bury(collection)

    def remove_beside(self, path: str) -> None:
        """Deletes a small file, if it is there."""
        with files.disk_errors(f"{self._root / path} can't be deleted"):
            (self._root / path).unlink(missing_ok=True)

    def sweep(self, key: str, gone: Collection[str]) -> None:
        """Removes builds, and what killed processes left."""
        for build in gone:
            self.remove(f"{key}/{build}")
        with files.disk_errors(f"{self._root} can't be swept"):
            self._bury(key.partition("/")[0])
            remove_dead(self._root / key)

    def lease(self, key: str) -> AbstractContextManager[Lease]:
        """The right to build the key's index, see `LocalLease.hold`."""
        path = self._root / f"{key}.{LEASE}"
        return self._leased(key.partition("/")[0], path)

    def building(self, key: str) -> bool:
        """Whether somebody holds the lease."""
        return is_held(self._root / f"{key}.{LEASE}")

    def oust(self, key: str) -> None:
        """Takes the lease from whoever holds it."""
        self.remove_beside(f"{key}.{LEASE}")

    @contextmanager
    def _leased(self, collection: str, path: Path) -> Iterator[Lease]:
        with ExitStack() as stack:
            with files.disk_errors(f"the index of collection {collection!r} can't be locked in {self._root}"):
                lease = stack.enter_context(LocalLease(collection, path, self._pause).hold())
            yield lease

    def _bury(self, collection: str) -> None:
        """Deletes all that was moved aside; only what is left of this collection fails its removal."""
        left = []
        for grave in self._root.glob(f"{_GRAVE}*"):
            # Others may be burying it too.
            shutil.rmtree(grave, ignore_errors=True)
            if not grave.exists():
                continue
            if grave.name.removeprefix(_GRAVE).rpartition("-")[0] == collection:
                left.append(grave)
            else:
                _log.warning("%s can't be deleted and holds rows of an index; mend its permissions", grave)
        if left:
            raise StorageError(f"{left[0]} can't be deleted; mend its permissions, and do it again")


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
