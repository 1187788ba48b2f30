"""The file operations under the registry: read all of a file, write it durably, publish a folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from trunkline_service.errors import ModelFileError, StorageError

# Identity, size and time of a file: a file that was put in its place differs in one of them.
Stamp = tuple[int, int, int]


def read(path: Path) -> bytes:
    """All bytes of a file of a head.

    Raises:
        ModelFileError: There is none.
        StorageError: It can't be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise missing(path) from exc
    except OSError as exc:
        raise StorageError(f"{shown(path)} can't be read: {exc.strerror}") from exc


def stamp(path: Path) -> Stamp:
    """What tells this file from another one that is put in its place.

    Raises:
        ModelFileError: There is none.
        StorageError: It can't be looked at.
    """
    try:
        status = path.stat()
    except FileNotFoundError as exc:
        raise missing(path) from exc
    except OSError as exc:
        raise StorageError(f"{shown(path)} can't be read: {exc.strerror}") from exc
    return status.st_ino, status.st_size, status.st_mtime_ns


def shown(path: Path) -> str:
    """``heads/<name>/<version>/<file>``, without the folder of the server: callers read this."""
    return "/".join(path.parts[-4:])


def missing(path: Path) -> ModelFileError:
    """The error of a version folder that lacks one of its files."""
    return ModelFileError(
        f"{shown(path)} is missing; restore it, or remove its folder and fit the head again"
    )


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


def write(path: Path, data: bytes) -> None:
    """Writes a file and waits until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


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
