"""Files of an index on a disk: written durably, summed, checked."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trunkline_service.errors import IndexDamaged, StorageError
from trunkline_service.index.card import IndexCard, IndexFile


def measured(folder: Path) -> tuple[IndexFile, ...]:
    """Every file of a folder, by name, once it is on the disk."""
    found = []
    for path in sorted(folder.iterdir()):
        sync(path)
        found.append(IndexFile(path.name, path.stat().st_size, sha256(path)))
    return tuple(found)


def check(folder: Path, card: IndexCard) -> None:
    """Compares the files of a build with its card, byte for byte by their sums.

    Raises:
        IndexDamaged: A file is missing, of another size, or changed.
    """
    for file in card.files:
        path = folder / file.name
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                raise damaged(card, file.name, "is no regular file")
            if status.st_size != file.size:
                raise damaged(card, file.name, f"has {status.st_size} bytes, not {file.size}")
            found = sha256(path)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise damaged(card, file.name, "is missing") from exc
        except OSError as exc:
            raise damaged(card, file.name, f"can't be read: {exc.strerror}") from exc
        if found != file.sha256:
            raise damaged(card, file.name, "was changed: its SHA-256 is not the card's")


def damaged(card: IndexCard, file: str, what: str) -> IndexDamaged:
    """The error of a file that is not what the card says; ``what`` continues the file's name."""
    return IndexDamaged(
        f"{file} of index {card.build} of collection {card.collection!r} {what}; build the index again"
    )


def sha256(path: Path) -> str:
    """In hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
