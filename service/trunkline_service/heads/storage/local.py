"""Heads in a folder of this machine.

A version appears by one rename of a complete, synced folder, so that a reader sees all of it or nothing,
and a crash or a full disk leaves the versions before it as they were. The pointer is replaced by a rename
too, under a lock that processes share.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from trunkline_service.errors import StorageError
from trunkline_service.heads.storage import folder
from trunkline_service.heads.storage.store import CARD_FILE, HEAD_FILE, POINTER_FILE, missing, shown
from trunkline_service.names import is_name, parse_version

# Neither is a head's name, for it begins with a dot.
_LOCKS = ".locks"
_GRAVE = ".dropped-"
_SAVING = ".saving-"
_LEFT_AFTER_S = 86_400
_MEND = "Mend the permissions of the data folder"


class LocalStore:
    """See `HeadStore`.

    Args:
        root: The folder of the heads' folders; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # Predicting looks here at every call, and joining paths would cost it more than reading.
        self._text = os.fspath(root)

    def heads(self) -> dict[str, tuple[int, ...]]:
        """See `HeadStore`."""
        named = ((name, self.versions(name)) for name in folder.entries(self._root) if is_name(name))
        return {name: versions for name, versions in named if versions}

    def versions(self, name: str) -> tuple[int, ...]:
        """See `HeadStore`."""
        found = (parse_version(entry) for entry in folder.entries(self._root / name))
        return tuple(sorted(version for version in found if version is not None))

    def publish(self, name: str, first: int, model: bytes, card_of: Callable[[int], bytes]) -> int:
        """See `HeadStore`."""
        home, version = self._root / name, first
        with _written(
            f"head {name!r} can't be saved under {self._root}",
            "Its earlier versions are untouched; make room or mend the permissions, and save again",
        ):
            home.mkdir(parents=True, exist_ok=True)
            # Its name is no version, so readers pass it by.
            work = home / f"{_SAVING}{secrets.token_hex(8)}"
            work.mkdir()
            try:
                folder.write(work / HEAD_FILE, model)
                while True:
                    folder.write(work / CARD_FILE, card_of(version))
                    folder.sync_folder(work)
                    if folder.publish(work, home / str(version)):
                        break
                    version += 1
            finally:
                shutil.rmtree(work, ignore_errors=True)
            folder.sync_folder(home)
            folder.sync_folder(self._root)
        return version

    def stamp(self, name: str, version: int) -> folder.Stamp:
        """See `HeadStore`."""
        try:
            found = folder.stamp(f"{self._text}/{name}/{version}/{CARD_FILE}")
        except OSError as exc:
            raise StorageError(f"{shown(name, version, CARD_FILE)} can't be read: {exc.strerror}") from exc
        if found is None:
            raise missing(name, version, CARD_FILE)
        return found

    def read(self, name: str, version: int, file: str) -> bytes:
        """See `HeadStore`."""
        found = self.find(name, version, file)
        if found is None:
            raise missing(name, version, file)
        return found

    def find(self, name: str, version: int, file: str) -> bytes | None:
        """See `HeadStore`."""
        try:
            return folder.read(self._path(name, version, file))
        except OSError as exc:
            raise StorageError(f"{shown(name, version, file)} can't be read: {exc.strerror}") from exc

    def write(self, name: str, version: int, file: str, data: bytes) -> None:
        """See `HeadStore`."""
        with _written(f"{shown(name, version, file)} can't be written", "Make room or mend the permissions"):
            try:
                folder.replace(self._path(name, version, file), data)
            except FileNotFoundError as exc:
                raise missing(name, version, CARD_FILE) from exc

    def remove(self, name: str, version: int) -> None:
        """See `HeadStore`."""
        home = self._root / name
        self._bury(home / str(version), home / f"{_GRAVE}{secrets.token_hex(8)}", f"{name}@{version}")

    def remove_head(self, name: str) -> None:
        """See `HeadStore`."""
        grave = self._root / f"{_GRAVE}{secrets.token_hex(8)}"
        # Not while someone moves the pointer: theirs would come to stand in a folder without versions.
        with _written(f"head {name!r} can't be deleted", _MEND), self._locked(name):
            self._bury(self._root / name, grave, f"head {name!r}")

    def clean(self, name: str, now: datetime) -> None:
        """See `HeadStore`."""
        home, before = self._root / name, now.timestamp() - _LEFT_AFTER_S
        folder.remove_older(home, (_SAVING, _GRAVE, f".{POINTER_FILE}."), before)
        folder.remove_older(self._root, (_GRAVE,), before)

    def pointer(self, name: str) -> bytes | None:
        """See `HeadStore`; it is read at every call."""
        try:
            return folder.read(f"{self._text}/{name}/{POINTER_FILE}")
        except OSError as exc:
            raise StorageError(f"heads/{name}/{POINTER_FILE} can't be read: {exc.strerror}") from exc

    def update_pointer(self, name: str, change: Callable[[bytes | None], bytes]) -> bytes:
        """See `HeadStore`."""
        path = self._root / name / POINTER_FILE
        what = f"which version of head {name!r} serves can't be written under {self._root}"
        remedy = "What served before still does; make room or mend the permissions, and do it again"
        with _written(what, remedy), self._locked(name):
            before = self.pointer(name)
            after = change(before)
            if after != before:
                path.parent.mkdir(parents=True, exist_ok=True)
                folder.replace(path, after)
        return after

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One at a time, of all threads and processes that have the folder."""
        # Here, because not every system has it: heads can be read without.
        import fcntl

        locks = self._root / _LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name).open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _bury(self, path: Path, grave: Path, what: str) -> None:
        with _written(f"{what} can't be deleted", _MEND):
            try:
                path.rename(grave)
            except FileNotFoundError:
                return
            shutil.rmtree(grave, ignore_errors=True)

    def _path(self, name: str, version: int, file: str) -> Path:
        return self._root / name / str(version) / file


@contextmanager
def _written(what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StorageError(f"{what}: {exc.strerror or exc}. {remedy}") from exc
