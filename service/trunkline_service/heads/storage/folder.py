"""File operations under the local store: read all of a file, write it durably, publish a folder."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path

from trunkline_service.errors import StorageError

# Identity, size and time of a file: a file that was put in its place differs in one of them.
Stamp = tuple[int, int, int]


def read(path: str | Path) -> bytes | None:
    """All bytes of a file; None where there is none."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except (FileNotFoundError, NotADirectoryError):
        return None


def stamp(path: str) -> Stamp | None:
    """What tells this file from another one that is put in its place; None where there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def entries(folder: Path) -> list[str]:
    """Names of the folders in ``folder``; none if it does not exist.

    Raises:
        StorageError: It can't be read.
    """
    try:
        with os.scandir(folder) as found:
            return [entry.name for entry in found if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise StorageError(f"{folder} can't be read: {exc.strerror}") from exc


def remove_older(folder: Path, prefixes: tuple[str, ...], before: float) -> None:
    """Removes entries of these prefixes that were last changed before ``before``, in seconds since 1970.

    What can't be removed stays: it is in nobody's way.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            if entry.name.startswith(prefixes) and entry.stat(follow_symlinks=False).st_mtime < before:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def write(path: Path, data: bytes) -> None:
    """Writes a file and waits until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, data: bytes) -> None:
    """Writes a file such that readers see the one before it or all of it, also after a crash."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write(part, data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Waits until the entries of a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(work: Path, target: Path) -> bool:
    """Renames ``work`` to ``target``; ``False`` if something stands there already."""
    try:
        # On POSIX this is atomic, and refuses a target that is not an empty folder.
        work.rename(target)
    except OSError as exc:
        if exc.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True
