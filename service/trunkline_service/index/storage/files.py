"""Files of an index on a disk: written durably, summed, checked."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trunkline_service.errors import IndexDamaged, StorageError
from trunkline_service.index.card import IndexCard, IndexFile

_BLOCK = 1 << 20
_READ_ONLY = 0o444
# The file is not there, or the disk has lost what was in it. All else says something of this machine at this moment.
_LOST = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO)


def unheard() -> None:
    """Nobody ends what goes on."""


def measured(folder: Path, going_on: Callable[[], None] = unheard) -> tuple[IndexFile, ...]:
    """Every file of a folder, by name, once it is on the disk; from then on nobody can write to it.

    Args:
        folder: With nothing but files.
        going_on: Called at every block that is read; what it raises ends the work.
    """
    found = []
    for path in sorted(folder.iterdir()):
        seal(path)
        found.append(IndexFile(path.name, path.stat().st_size, sha256(path, going_on)))
    return tuple(found)


def check(folder: Path, card: IndexCard, going_on: Callable[[], None] = unheard) -> None:
    """Compares the files of a build with its card, byte for byte by their sums.

    Args:
        folder: Of the files.
        card: Of the build.
        going_on: Called at every block that is read; what it raises ends the work.

    Raises:
        IndexDamaged: A file is missing, of another size, or changed.
        StorageError: A file can't be read now, as where too many are open; that says nothing of the file.
    """
    for file in card.files:
        path = folder / file.name
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                raise damaged(card, file.name, "is no regular file")
            if status.st_size != file.size:
                raise damaged(card, file.name, f"has {status.st_size} bytes, not {file.size}")
            found = sha256(path, going_on)
        except OSError as exc:
            raise unreadable(card, file.name, exc) from exc
        if found != file.sha256:
            raise damaged(card, file.name, "was changed: its SHA-256 is not the card's")


def damaged(card: IndexCard, file: str, what: str) -> IndexDamaged:
    """The error of a file that is not what the card says; ``what`` continues the file's name."""
    return IndexDamaged(
        f"{file} of index {card.build} of collection {card.collection!r} {what}; build the index again"
    )


def unreadable(card: IndexCard, file: str, exc: OSError | MemoryError) -> StorageError:
    """The error of a file that can't be read: `IndexDamaged` only where the file is at fault."""
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        return damaged(card, file, "is missing")
    if isinstance(exc, OSError) and (exc.errno is None or exc.errno in _LOST):
        return damaged(card, file, f"can't be read: {exc.strerror or exc}")
    why = exc.strerror if isinstance(exc, OSError) else "there is not enough memory"
    return StorageError(
        f"{file} of index {card.build} of collection {card.collection!r} can't be read now: {why}. Mend this; the "
        "index is tried again"
    )


def sha256(path: Path, going_on: Callable[[], None] = unheard) -> str:
    """In hexadecimal; ``going_on`` is called at every block, and what it raises ends the work."""
    digest, block = hashlib.sha256(), bytearray(_BLOCK)
    view = memoryview(block)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            going_on()
            digest.update(view[:count])
    return digest.hexdigest()


def seal(path: Path) -> None:
    """Waits until a file is on the disk, and lets nobody write to it: it is mapped into memory by who searches."""
    sync(path)
    path.chmod(_READ_ONLY)


def read(path: Path) -> bytes | None:
    """All bytes of a small file; None where there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def replace(path: Path, data: bytes) -> None:
    """Writes a small file such that readers see the one before it or all of it, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        part.write_bytes(data)
        sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Translates what the operating system says inside the block; ``what`` begins the message."""
    try:
        yield
    except OSError as exc:
        raise StorageError(
            f"{what}: {exc.strerror or exc}. Make room or mend the permissions, and do it again"
        ) from exc
