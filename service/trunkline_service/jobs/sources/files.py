"""Reads one local file: bounded, and without waiting for what is no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from trunkline_service.errors import ImageTooLarge, UnreadableFile

_T = TypeVar("_T")
_CHUNK = 1024 * 1024
# Not there on every system; where there are no FIFOs nothing has to be done about them.
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)


@dataclass(frozen=True, slots=True)
class FileReader:
    """Reads a local file.

    Attributes:
        path: As the file system has it, whatever its encoding.
    """

    path: str

    def __call__(self, limit: int) -> bytes:
        """See ``item.Reader``."""

        def whole(descriptor: int, size: int) -> bytes:
            if size > limit:
                raise too_large(size, limit)
            return read_upto(descriptor, size, limit)

        return with_regular_file(self.path, whole)


@dataclass(frozen=True, slots=True)
class PartReader:
    """Reads a part of a local file, say a member of a tar.

    Attributes:
        path: The file.
        offset: Where the part begins, in bytes.
        size: Of the part, in bytes.
        mtime_ns: Of the file when it was listed.
    """

    path: str
    offset: int
    size: int
    mtime_ns: int

    def __call__(self, limit: int) -> bytes:
        """See ``item.Reader``."""
        if self.size > limit:
            raise too_large(self.size, limit)

        def part(descriptor: int, _size: int) -> bytes:
            if os.fstat(descriptor).st_mtime_ns != self.mtime_ns:
                raise UnreadableFile("its archive changed after it was listed; run the job again")
            os.lseek(descriptor, self.offset, os.SEEK_SET)
            data = read_exactly(descriptor, self.size)
            if len(data) < self.size:
                raise UnreadableFile(
                    f"its archive ends early: {len(data):,} of {self.size:,} bytes are there; fetch it again"
                )
            return data

        return with_regular_file(self.path, part)


def with_regular_file(path: str, use: Callable[[int, int], _T]) -> _T:
    """Opens a file and gives ``use`` its descriptor and its size in bytes.

    Raises:
        UnreadableFile: It can't be opened or read, or is no regular file.
    """
    try:
        # Looked at before it is opened, because opening a device can do something; and after, because
        # another file can have taken its place.
        _check_regular(os.stat(path))
        descriptor = os.open(path, _OPEN)
        try:
            status = os.fstat(descriptor)
            _check_regular(status)
            return use(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as exc:
        # ValueError: a zero byte in a path.
        raise unreadable(exc) from exc


def read_upto(descriptor: int, size: int, limit: int) -> bytes:
    """All of a file that says it has ``size`` bytes and may be growing.

    Raises:
        ImageTooLarge: More than ``limit`` bytes come.
    """
    # One byte more tells a file of that size from one that grew.
    data = read_exactly(descriptor, min(size, limit) + 1)
    if len(data) > size:
        data += read_exactly(descriptor, limit + 1 - len(data))
    if len(data) > limit:
        raise too_large(len(data), limit, at_least=True)
    return data


def read_exactly(descriptor: int, size: int) -> bytes:
    """So many bytes, or fewer where the file ends before."""
    data = os.read(descriptor, size) if size > 0 else b""
    if len(data) == size:
        return data
    pieces = [data]
    left = size - len(data)
    while data and left:
        # Asked for all at once, memory for all that may come would be taken.
        data = os.read(descriptor, min(left, _CHUNK))
        pieces.append(data)
        left -= len(data)
    return b"".join(pieces)


def too_large(size: int, limit: int, at_least: bool = False) -> ImageTooLarge:
    """The error for an image of more bytes than are allowed."""
    more = "at least " if at_least else ""
    return ImageTooLarge(f"{more}{size:,} bytes; at most {limit:,} are allowed: make it smaller")


def unreadable(exc: Exception) -> UnreadableFile:
    """The error for a file that can't be read, for this reason."""
    said = getattr(exc, "strerror", None) or (str(exc).strip().splitlines() or [type(exc).__name__])[0]
    return UnreadableFile(f"can't be read: {said}")


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFile("not a regular file; leave it out or replace it")
