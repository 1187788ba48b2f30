"""Files that hold many images: local paths and URLs, one by one, by glob, by braces."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from typing import BinaryIO, cast

from trunkline_service.errors import ImageError, StorageError, TrunklineError, UnreadableFile
from trunkline_service.jobs.sources.files import unreadable
from trunkline_service.jobs.sources.layout import text_of
from trunkline_service.jobs.sources.parallel import Unlisted, list_below
from trunkline_service.jobs.sources.pattern import Pattern, expand_braces, has_wildcard, is_url, split_glob
from trunkline_service.jobs.sources.stores import child_uri, first_line, place_of

_LISTERS = 8
# Of a remote file: several headers or rows come with one request.
_AHEAD = 4 * 1024 * 1024
_SPECIAL = "*?[{"


@dataclass(frozen=True, slots=True)
class Stamp:
    """The state of a file.

    Attributes:
        size: Bytes, or None where the store does not tell.
        mtime: Seconds since the epoch, or None.
        mtime_ns: The same in nanoseconds, for local files; 0 for others.
        etag: The store's tag, or None.
    """

    size: int | None
    mtime: float | None
    mtime_ns: int
    etag: str | None


class Locations:
    """The files that a path, a URL, a glob or a brace pattern names.

    Args:
        text: As ``shard-{000..123}.tar`` or ``s3://bucket/*/t.parquet``; what exists under this very
            name is one file.

    Attributes:
        text: The same.
        root: The folder above the first wildcard or brace, absolute, or its URL.
        uri: The text, with that folder.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._plain = not is_url(text) and os.path.lexists(text)
        self.root, below = self._cut()
        self._start = text_of(self.root).rstrip("/") + "/"
        self.uri = self._start + text_of(below)
        names = [shown(name) for name in ([below] if self._plain else expand_braces(below))]
        self._names = frozenset(names)
        self._patterns = [Pattern(tuple(name.split("/"))) for name in names if has_wildcard(name)]

    def find(self) -> list[str]:
        """The files, local ones as absolute paths, in the order of the braces, sorted otherwise.

        A name without wildcards is given whether it exists or not.

        Raises:
            InvalidArgument, MissingExtra: See ``stores.place_of``.
            StorageError: A store can't be reached or a folder in it can't be listed.
        """
        if self._plain:
            return [os.path.abspath(self.text)]
        found: list[str] = []
        for name in expand_braces(self.text):
            if not has_wildcard(name):
                found.append(name)
            else:
                found += _remote_matches(name) if is_url(name) else sorted(glob.iglob(name, recursive=True))
        return list(dict.fromkeys(name if is_url(name) else os.path.abspath(name) for name in found))

    def name_of(self, location: str) -> str:
        """A file's path below the root."""
        return shown(location)[len(self._start) :]

    def has(self, location: str) -> bool:
        """Whether a file of this recorded name is one of them, there now or gone."""
        name = self.name_of(location) if location.startswith(self._start) else ""
        return name in self._names or any(pattern.matches(name.split("/")) for pattern in self._patterns)

    def _cut(self) -> tuple[str, str]:
        first = len(self.text)
        if not self._plain:
            first = min((at for sign in _SPECIAL if (at := self.text.find(sign)) >= 0), default=first)
        folder, slash, _ = self.text[:first].rpartition("/")
        below = self.text[len(folder + slash) :]
        return (folder if is_url(self.text) else os.path.abspath(folder or slash or ".")), below


@contextmanager
def opened(location: str) -> Iterator[BinaryIO]:
    """A local or remote file, seekable.

    Raises:
        UnreadableFile: It can't be opened or read, or is no regular file.
    """
    with reading_errors(is_url(location)):
        if is_url(location):
            place = place_of(location)
            raw = place.store.open(place.path)
            # Arrow's and fsspec's files are raw files in all but the type.
            with BufferedReader(cast(RawIOBase, raw), _AHEAD) as file:
                yield cast(BinaryIO, file)
            return
        status = os.stat(location)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableFile("not a regular file; leave it out or replace it")
        with open(location, "rb", opener=_open_now) as local:
            yield local


def stamp_of(location: str) -> Stamp:
    """Size and times of a local or remote file.

    Raises:
        UnreadableFile: It can't be looked at.
    """
    with reading_errors(is_url(location)):
        if is_url(location):
            place = place_of(location)
            entry = place.store.stat(place.path)
            return Stamp(entry.size, entry.mtime, 0, entry.etag)
        status = os.stat(location)
        return Stamp(status.st_size, status.st_mtime, status.st_mtime_ns, None)


@contextmanager
def reading_errors(remote: bool) -> Iterator[None]:
    """What file systems and drivers raise, as ``UnreadableFile``.

    Args:
        remote: A driver is at work, which raises errors of its own libraries.
    """
    try:
        yield
    except TrunklineError:
        raise
    except Exception as exc:
        if remote or isinstance(exc, OSError):
            raise unreadable(exc) from exc
        raise


@contextmanager
def image_errors() -> Iterator[None]:
    """All that can go wrong with one image, as ``ImageError``: the next one may well be read."""
    try:
        with reading_errors(remote=True):
            yield
    except ImageError:
        raise
    except TrunklineError as exc:
        raise UnreadableFile(f"can't be read: {exc.message}") from exc


def shown(location: str) -> str:
    """A location for messages: without what a URL's options may hold."""
    return location.partition("?")[0] if is_url(location) else text_of(location)


def _open_now(path: str, flags: int) -> int:
    # A FIFO can have taken the file's place.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _remote_matches(text: str) -> list[str]:
    base, question, options = text.partition("?")
    root, pattern = split_glob(base)
    place = place_of(root + question + options)
    start = len(place.path)

    def names(path: str) -> tuple[str, ...]:
        return tuple(path[start:].strip("/").split("/"))

    found = []
    for entry in list_below(
        place.store.entries, place.path, lambda folder: pattern.may_hold(names(folder)), _LISTERS
    ):
        if isinstance(entry, Unlisted):
            raise StorageError(
                f"{entry.folder} can't be listed: {first_line(entry.reason)}"
            ) from entry.reason
        if pattern.matches(names(entry.path)):
            found.append(child_uri(place.uri, "/".join(names(entry.path))))
    return sorted(found)
