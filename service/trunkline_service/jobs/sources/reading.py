"""From what a row recorded as its source back to the bytes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from trunkline_service.errors import UnreadableFile
from trunkline_service.jobs.sources.cells import read_cell
from trunkline_service.jobs.sources.containers import is_member, split_member
from trunkline_service.jobs.sources.files import FileReader
from trunkline_service.jobs.sources.item import Reader
from trunkline_service.jobs.sources.locations import image_errors
from trunkline_service.jobs.sources.pattern import is_url
from trunkline_service.jobs.sources.remote_reading import RemoteReader
from trunkline_service.jobs.sources.tars import read_member

_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class UnreadableReader:
    """Stands for an image that can't be read.

    Attributes:
        message: Why, and what to do.
    """

    message: str

    def __call__(self, limit: int) -> bytes:  # noqa: ARG002 - readers take it
        """Raises ``UnreadableFile``."""
        raise UnreadableFile(self.message)


@dataclass(frozen=True, slots=True)
class RecordedFileReader:
    """Reads a local file by its recorded name, in which bytes that are no UTF-8 are escaped.

    Attributes:
        source: An absolute path, as ``layout.text_of`` wrote it.
    """

    source: str

    def __call__(self, limit: int) -> bytes:
        """See ``item.Reader``."""
        return FileReader(path_of(self.source))(limit)


@dataclass(frozen=True, slots=True)
class MemberReader:
    """Reads an image inside a file that holds many.

    Attributes:
        source: The file, ``#``, and the name or number of the image.
    """

    source: str

    def __call__(self, limit: int) -> bytes:
        """See ``item.Reader``."""
        container, member = split_member(self.source)
        location = container if is_url(container) else path_of(container)
        with image_errors():
            if container.lower().endswith(".tar"):
                return read_member(location, member, limit)
            return read_cell(location, member, limit)


def reader_of(source: str) -> Reader:
    """How to read what a row recorded as its source. Nothing is opened yet.

    Args:
        source: See ``SourceItem.source``; empty gives a reader that says that nothing was recorded.
    """
    if not source:
        return UnreadableReader(
            "its source was not recorded, so it can't be read again; embed it from where it is kept"
        )
    # A file whose name looks like a member's is a file.
    if is_member(source) and not os.path.lexists(source):
        return MemberReader(source)
    if is_url(source):
        return RemoteReader(source)
    if not os.path.isabs(source):
        return UnreadableReader(
            f"its recorded source, {source[:_SHOWN]!r}, is neither an absolute path nor a URL; embed it from "
            "where it is kept"
        )
    return RecordedFileReader(source)


def path_of(text: str) -> str:
    """The path that ``layout.text_of`` wrote as this text.

    Where a file of that very name exists, it is that one: a name may hold a backslash of its own.
    """
    raw = os.fsencode(text)
    if b"\\x" not in raw or os.path.lexists(text):
        return text
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found.group(1), 16)]), raw))
