"""Small copies of images for a page, read from under one declared folder and from nowhere else."""

from __future__ import annotations

import base64
import io
import os
import stat
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from trunkline_service.errors import ImageError, UnreadableFile
from trunkline_service.images.decode import decode
from trunkline_service.settings import ImageLimits

LONGEST_SIDE = 160
_QUALITY = 80


class Thumbnail(NamedTuple):
    """A small copy, or why there is none.

    Attributes:
        uri: ``data:image/jpeg;base64,...``; None without one.
        reason: Why there is none; empty with one.
        width: In pixels; 0 without one.
        height: In pixels; 0 without one.
    """

    uri: str | None
    reason: str
    width: int = 0
    height: int = 0


def thumbnail(source: str, root: Path | None, limits: ImageLimits | None = None) -> Thumbnail:
    """A copy of at most 160 x 160 pixels.

    A source is opened only if, all links followed, it lies under ``root`` and is a regular file.

    Args:
        source: As a collection recorded it; files are absolute paths.
        root: The declared folder; None opens nothing.
        limits: Of bytes and pixels.
    """
    limits = limits or ImageLimits()
    if root is None:
        return Thumbnail(None, "no image folder given")
    try:
        data = _read(_below(source, root), limits.max_bytes)
        pixels = decode(data, "fast", limits, target=(LONGEST_SIDE, LONGEST_SIDE))
    except UnreadableFile as exc:
        return Thumbnail(None, exc.message)
    except ImageError:
        return Thumbnail(None, "image can't be decoded")
    return _encoded(Image.fromarray(pixels))


def _below(source: str, root: Path) -> Path:
    """The file without any links in its path.

    Raises:
        UnreadableFile: It is not there, or not below ``root``.
    """
    if not source:
        raise UnreadableFile("source not recorded")
    if not os.path.isabs(source) or "\0" in source:
        raise UnreadableFile("not a local file")
    try:
        base, path = root.resolve(strict=True), Path(source).resolve(strict=True)
    except (OSError, RuntimeError) as exc:
        # Gone, not allowed, or a circle of links.
        raise UnreadableFile("file can't be read") from exc
    if not path.is_relative_to(base):
        raise UnreadableFile("outside the image folder")
    return path


def _read(path: Path, most: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        UnreadableFile: It is none, is larger than ``most``, or can't be read.
    """
    try:
        # The path has no links any more; without O_NONBLOCK a pipe would be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size > most:
                raise UnreadableFile("not an image file")
            with open(handle, "rb", closefd=False) as file:
                return file.read(most)
        finally:
            os.close(handle)
    except OSError as exc:
        raise UnreadableFile("file can't be read") from exc


def _encoded(image: Image.Image) -> Thumbnail:
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{text}", "", image.width, image.height)
