"""Uncompressed tar files: where each member lies, read by offset."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from trunkline_service.errors import UnreadableFile
from trunkline_service.jobs.sources.files import PartReader, too_large
from trunkline_service.jobs.sources.item import Reader
from trunkline_service.jobs.sources.layout import text_of
from trunkline_service.jobs.sources.locations import Stamp, image_errors, opened, stamp_of
from trunkline_service.jobs.sources.pattern import is_url
from trunkline_service.jobs.sources.shelf import Shelf

_INDEXES_KEPT = 4
# A remote tar is looked at once in so long, and not for each of its members.
_LOOK_S = 5.0
_LOOKS_KEPT = 64
_BLOCK = tarfile.BLOCKSIZE


class Member(NamedTuple):
    """A regular file inside a tar.

    Attributes:
        name: As text; bytes that are no UTF-8 are escaped.
        offset: Where its bytes begin.
        size: Bytes.
    """

    name: str
    offset: int
    size: int


class ShardLooks:
    """What remote files were like a few seconds ago at most; threads may share it.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stamps: Shelf[Stamp] = Shelf(_LOOKS_KEPT)

    def stamp_of(self, url: str) -> Stamp:
        """See ``locations.stamp_of``."""
        return self._stamps.get((url, self._clock() // _LOOK_S), lambda: stamp_of(url))


@dataclass(frozen=True, slots=True)
class RemotePartReader:
    """Reads a part of a remote file.

    Attributes:
        url: The file.
        offset: Where the part begins, in bytes.
        size: Of the part, in bytes.
        stamp: The file's state when it was listed.
    """

    url: str
    offset: int
    size: int
    stamp: Stamp

    def __call__(self, limit: int) -> bytes:
        """See ``item.Reader``."""
        if self.size > limit:
            raise too_large(self.size, limit)
        with image_errors():
            # What was seen a moment ago may be older than the listing.
            if _looks.stamp_of(self.url) != self.stamp and stamp_of(self.url) != self.stamp:
                raise UnreadableFile("the shard changed since it was listed; run the job again")
            with opened(self.url) as file:
                file.seek(self.offset)
                data = file.read(self.size)
        if len(data) < self.size:
            raise UnreadableFile(
                f"its archive ends early: {len(data):,} of {self.size:,} bytes are there; store it again"
            )
        return data


def members(file: BinaryIO, damaged: Callable[[str], None]) -> Iterator[Member]:
    """The regular files of a tar, in its order.

    Args:
        file: Seekable.
        damaged: Told once, in a few words, where the tar ends before its end mark.
    """
    try:
        # Closing it would close nothing of ours: the file is the caller's.
        tar: Any = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115
    except (tarfile.TarError, OSError) as exc:
        damaged(f"no tar file: {exc}")
        return
    last = -1
    try:
        while (member := tar.next()) is not None:
            # tarfile remembers every member, and believes a header that leads backwards.
            tar.members.clear()
            if member.size < 0 or member.offset <= last:
                damaged(f"damaged at byte {member.offset:,}")
                return
            last = member.offset
            if member.isreg() and not member.issparse():
                yield Member(text_of(member.name), member.offset_data, member.size)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as exc:
        damaged(f"damaged at byte {tar.offset:,}: {exc}")
        return
    # tarfile ends at a header that is none as it does at the end mark.
    file.seek(tar.offset)
    block = file.read(_BLOCK)
    if block != bytes(_BLOCK):
        damaged(f"damaged at byte {tar.offset:,}" if block else "no end mark: it may be cut short")


def part_reader(location: str, stamp: Stamp, member: Member) -> Reader:
    """Reads a member of the tar that was in this state."""
    if is_url(location):
        return RemotePartReader(location, member.offset, member.size, stamp)
    return PartReader(location, member.offset, member.size, stamp.mtime_ns)


def read_member(location: str, name: str, limit: int) -> bytes:
    """The bytes of a member by name; the tar's index is kept for the next one.

    Raises:
        UnreadableFile: There is no such tar or member, or it can't be read.
        ImageTooLarge: More than ``limit`` bytes.
    """
    stamp = stamp_of(location)
    index = _indexes.get((location, stamp), lambda: _index(location))
    member = index.get(name)
    if member is None:
        raise UnreadableFile(f"its archive has no member {name!r} any more; embed it from where it is kept")
    return part_reader(location, stamp, member)(limit)


def _index(location: str) -> dict[str, Member]:
    with opened(location) as file:
        # Of a damaged tar what is whole can be read.
        return {member.name: member for member in members(file, lambda _where: None)}


_looks = ShardLooks(time.monotonic)
_indexes: Shelf[dict[str, Member]] = Shelf(_INDEXES_KEPT)
