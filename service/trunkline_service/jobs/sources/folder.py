"""A folder of images, or a glob below one; the layout gives labels and splits."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

from trunkline_service.errors import InvalidArgument
from trunkline_service.jobs.sources.containers import is_member
from trunkline_service.jobs.sources.files import FileReader
from trunkline_service.jobs.sources.item import SourceItem
from trunkline_service.jobs.sources.layout import IMAGE_SUFFIXES, label_and_split, suffix_of, text_of
from trunkline_service.jobs.sources.pattern import Pattern
from trunkline_service.jobs.sources.source import ListedSource, Listing

# Names held at once. A folder of more is given in sorted stretches of so many.
_WINDOW = 50_000
_LINK = "link"


class FolderSource(ListedSource):
    """The images below a folder.

    The parent folder is the label and a folder ``train``, ``val``, ``valid``, ``validation`` or ``test``
    anywhere above is the split. Hidden files and folders are left out. Links to folders are not
    followed, and each is a problem: its images are missing. Ids are paths below the folder.

    Args:
        root: The folder.
        pattern: Which files below it; None for all.
        id_prefix: Stands before every id.

    Raises:
        InvalidArgument: There is no such folder.
    """

    def __init__(
        self, root: str | os.PathLike[str], pattern: Pattern | None = None, id_prefix: str = ""
    ) -> None:
        self._root = os.path.abspath(root)
        if not os.path.isdir(self._root):
            raise InvalidArgument(f"{text_of(root)!r} is not a folder; give one that holds images")
        super().__init__(text_of(self._root), id_prefix)
        self._pattern = pattern

    def covers(self, row_id: str, source: str) -> bool:
        """Whether it is a file below the folder, where the pattern looks, with its path there as its id."""
        below = row_id.removeprefix(self.id_prefix)
        return (
            row_id == self.id_prefix + below
            and source == f"{self.uri.rstrip('/')}/{below}"
            and is_given(below, self._pattern, source)
        )

    def _nothing(self) -> str:
        return nothing_below(self.uri, self._pattern)

    def _list(self, listing: Listing) -> Iterator[SourceItem]:
        pending: list[tuple[str, ...]] = [()]
        while pending:
            folders = pending.pop()
            below: list[str] = []
            for entry in self._entries(folders, listing):
                kind = _kind(entry)
                if kind == "folder":
                    below.append(entry.name)
                elif kind == _LINK:
                    if self._may_enter(folders, entry.name):
                        listing.problem(f"{text_of(entry.path)}: a link to a folder; not followed")
                elif self._pattern is not None and not self._pattern.matches(_texts(folders, entry.name)):
                    continue
                elif (suffix := suffix_of(entry.name)) in IMAGE_SUFFIXES:
                    yield self._item(folders, entry)
                else:
                    listing.left_out[text_of(suffix) or "no suffix"] += 1
            below.sort(reverse=True)
            pending += [(*folders, name) for name in below if self._may_enter(folders, name)]

    def _may_enter(self, folders: tuple[str, ...], name: str) -> bool:
        return self._pattern is None or self._pattern.may_hold(_texts(folders, name))

    def _entries(self, folders: tuple[str, ...], listing: Listing) -> Iterator[os.DirEntry[str]]:
        folder = os.path.join(self._root, *folders)
        try:
            with os.scandir(folder) as entries:
                seen = (entry for entry in entries if not entry.name.startswith("."))
                while window := sorted(itertools.islice(seen, _WINDOW), key=lambda entry: entry.name):
                    yield from window
        except OSError as exc:
            listing.problem(f"{text_of(folder)} can't be listed: {exc.strerror or exc}")

    def _item(self, folders: tuple[str, ...], entry: os.DirEntry[str]) -> SourceItem:
        names = _texts(folders, entry.name)
        label, split = label_and_split(names[:-1])
        try:
            status = entry.stat()
        except OSError:
            # A broken link, say: reading it will say why, and the row will hold the reason.
            size, mtime = None, None
        else:
            size, mtime = status.st_size, status.st_mtime
        return SourceItem(
            id=self.id_prefix + "/".join(names),
            source=text_of(entry.path),
            read=FileReader(entry.path),
            label=label,
            split=split,
            size=size,
            mtime=mtime,
        )


def is_given(below: str, pattern: Pattern | None, source: str) -> bool:
    """Whether a listing of a folder gives a file.

    Args:
        below: Its path below the folder.
        pattern: Which files are meant.
        source: What a row recorded: an image inside a tar is no file.
    """
    names = below.split("/")
    if not all(name and not name.startswith(".") for name in names) or is_member(source):
        return False
    return suffix_of(below) in IMAGE_SUFFIXES and (pattern is None or pattern.matches(names))


def nothing_below(root: str, pattern: Pattern | None) -> str:
    """Says that there is no image."""
    which = f" that matches {str(pattern)!r}" if pattern is not None else ""
    return f"no image{which} below {root!r} (looked for {', '.join(sorted(IMAGE_SUFFIXES))})"


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return _LINK if entry.is_dir() else "file"
    except OSError:
        # A link that leads to itself: reading it will say so.
        return "file"


def _texts(folders: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(map(text_of, (*folders, name)))
