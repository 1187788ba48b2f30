"""The images of one page: small copies, bounded in number and in bytes."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trunkline
from trunkline_service.heads.report.markup import Child, Markup, tag
from trunkline_service.heads.report.thumbnails import Thumbnail, thumbnail

MOST_IMAGES = 1500
MOST_BYTES = 12_000_000
"""Of a page's images: what a mail takes, and a phone opens."""

_AHEAD = 16
_NO_SOURCE = Thumbnail(None, "no file is known of it")
_NO_ROOM = Thumbnail(None, "there are more images than a page holds")


class Pictures:
    """Makes the thumbnails of one page, as long as there is room on it.

    Args:
        root: The folder below which images may be opened; None opens nothing.
        most: Of them.
        most_bytes: Of them together, as the page holds them.
    """

    def __init__(self, root: Path | None, most: int = MOST_IMAGES, most_bytes: int = MOST_BYTES) -> None:
        self._root = root
        self._images, self._bytes = most, most_bytes

    @property
    def full(self) -> bool:
        """Whether there is no room left."""
        return self._images <= 0 or self._bytes <= 0

    def of_each(self, sources: Iterable[str]) -> Iterator[Thumbnail]:
        """Of sources that a collection recorded, in order; several threads make them, a few ahead."""
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="thumbnails") as pool:
            waiting = iter(sources)
            ahead = deque(pool.submit(self._made, source) for source in itertools.islice(waiting, _AHEAD))
            while ahead:
                made = ahead.popleft().result()
                ahead.extend(pool.submit(self._made, source) for source in itertools.islice(waiting, 1))
                yield self._admitted(made)

    def _made(self, source: str) -> Thumbnail:
        if not source:
            return _NO_SOURCE
        return _NO_ROOM if self.full else thumbnail(source, self._root)

    def _admitted(self, made: Thumbnail) -> Thumbnail:
        if made.uri is None:
            return made
        if self.full:
            return _NO_ROOM
        self._images -= 1
        self._bytes -= len(made.uri)
        return made


def why_none(sources: Iterable[str], root: Path | None) -> str | None:
    """Why no image at all can be shown, in words; None where some may be.

    Args:
        sources: Of the rows that would have one.
        root: The folder below which images may be opened; None opens nothing.
    """
    if not any(sources):
        return "no files are known of these rows"
    return "no image folder given; name it with --root DIR" if root is None else None


def without(why: str | None) -> Markup | None:
    """The line that says on a page why it shows no images."""
    return tag("p", f"Without images: {why}.", class_="about bare") if why else None


def picture(copy: Thumbnail | None, alt: str) -> Markup | None:
    """A thumbnail as an element, or why there is none; nothing where the whole page has none."""
    if copy is None:
        return None
    if copy.uri is None:
        return tag("div", tag("p", copy.reason), class_="picture")
    image = tag("img", src=copy.uri, alt=alt, width=copy.width, height=copy.height, loading="lazy")
    return tag("div", image, class_="picture")


def row_card(
    row: trunkline.ExploredRow, copy: Thumbnail | None, *told: Child, class_: str = "suspect"
) -> Markup:
    """A row with its image, where the page has any, and what is said of it."""
    return tag(
        "article",
        picture(copy, f"image of {row.id}"),
        tag("div", tag("p", row.id, class_="id"), told, class_="told"),
        class_=class_,
    )
