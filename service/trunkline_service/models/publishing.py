"""One name's folder in the repository, while its one publisher holds it.

A version is made aside, in a folder that readers don't see, and shown by one rename. Only then has its
number been used: ``.last-version`` keeps the highest one, so that it is not given again when somebody
deletes the newest version's folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from trunkline_service.errors import StorageError
from trunkline_service.names import parse_version

CONFIG_FILE = "config.pbtxt"
_LOCK = ".lock"
_LAST_VERSION = ".last-version"
_TEMPORARY = ".publishing-"

_log = logging.getLogger(__name__)


def versions_in(home: Path) -> list[int]:
    """The versions that a name's folder shows, in order; none if there is no such folder."""
    try:
        entries = list(home.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        # A first publisher that failed takes its folder away again, maybe just now.
        return []
    found = ((parse_version(entry.name), entry) for entry in entries)
    return sorted(version for version, entry in found if version is not None and entry.is_dir())


@dataclass(frozen=True)
class Held:
    """A name's folder under the publisher's lock.

    Attributes:
        home: ``<root>/<name>``.
    """

    home: Path

    def next_version(self) -> int:
        """The number after all that were ever used.

        Raises:
            StorageError: ``.last-version`` holds no number.
        """
        return max([*versions_in(self.home), self._last_version()], default=0) + 1

    @contextlib.contextmanager
    def aside(self) -> Iterator[Path]:
        """An empty folder of the same file system, unseen by readers; gone after the block."""
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self.home))
        try:
            # Others may serve what this user publishes.
            folder.chmod(0o755)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def show(self, made: Path, version: int, config: str) -> Path:
        """Makes a finished folder visible as a version; returns where it is.

        Args:
            made: The folder, from ``aside``.
            version: Its number; there is no such version yet.
            config: Text of ``config.pbtxt``.
        """
        for file in made.iterdir():
            _fsync(file)
        _fsync(made)
        target = self.home / str(version)
        # All that takes room is written before the first rename: a full disk is found out by now.
        with self.aside() as folder:
            _write(folder / CONFIG_FILE, config)
            _write(folder / _LAST_VERSION, f"{max(version, self._last_version())}\n")
            (folder / CONFIG_FILE).replace(self.home / CONFIG_FILE)
            (folder / _LAST_VERSION).replace(self.home / _LAST_VERSION)
            made.rename(target)
        _fsync(self.home)
        _fsync(self.home.parent)
        return target

    def _last_version(self) -> int:
        try:
            text = (self.home / _LAST_VERSION).read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return 0
        version = parse_version(text)
        if version is None:
            raise StorageError(
                f"model {self.home.name!r}: {_LAST_VERSION} holds {text[:20]!r}, which is no version; write the "
                "highest version that was ever published into it"
            )
        return version


@contextlib.contextmanager
def held(home: Path) -> Iterator[Held]:
    """Holds the publisher's lock of a name.

    Clears what a killed publisher left behind; a first publisher that fails leaves no folder at all.

    Raises:
        OSError: The folder can't be written.
    """
    with _locked(home):
        _clear(home)
        known = (home / _LAST_VERSION).exists()
        try:
            yield Held(home)
        finally:
            if not versions_in(home):
                _abandon(home, forget=not known)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    # POSIX alone; imported here so that the client's machine need not have it.
    import fcntl

    while True:
        home.mkdir(parents=True, exist_ok=True)
        try:
            lock = (home / _LOCK).open("w")
        except FileNotFoundError:
            # Another publisher failed and took the folder away between the two lines above.
            continue
        except OSError:
            with contextlib.suppress(OSError):
                home.rmdir()
            raise
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("waiting for another publisher of model %s", home.name)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_still(lock, home / _LOCK):
                yield
                return


def _is_still(lock: TextIO, path: Path) -> bool:
    """Whether the locked file is the one that others will lock: a failed publisher removes its own."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _clear(home: Path) -> None:
    for left_behind in home.glob(f"{_TEMPORARY}*"):
        # Another user's can stay: nobody reads them.
        shutil.rmtree(left_behind, ignore_errors=True)


def _abandon(home: Path, forget: bool) -> None:
    """Leaves no configuration without a version, which Triton reports as a broken model."""
    # What made the publisher fail is the error to tell. A folder that is not empty stays: somebody keeps
    # files of their own there, or another publisher came meanwhile.
    with contextlib.suppress(OSError):
        (home / CONFIG_FILE).unlink(missing_ok=True)
        if forget:
            (home / _LAST_VERSION).unlink(missing_ok=True)
            (home / _LOCK).unlink(missing_ok=True)
            home.rmdir()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
