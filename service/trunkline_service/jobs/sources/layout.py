"""What a path says of an image: that it is one, its label, its split."""

from __future__ import annotations

import os
from collections.abc import Sequence

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
)
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def suffix_of(name: str) -> str:
    """``"a/B.JPG"`` -> ``".jpg"``; empty if there is none."""
    return os.path.splitext(name)[1].lower()


def label_and_split(folders: Sequence[str]) -> tuple[str | None, str | None]:
    """What the folders above an image say, the outermost first.

    The folder next to the image that is no split is its label; the outermost folder named ``train``,
    ``val``, ``valid``, ``validation`` or ``test`` is its split.
    """
    split = next((SPLITS[name.lower()] for name in folders if name.lower() in SPLITS), None)
    label = next((name for name in reversed(folders) if name.lower() not in SPLITS), None)
    return label, split


def text_of(path: str | os.PathLike[str]) -> str:
    """A path as text. Old data sets hold names that are no UTF-8; those bytes are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace(os.sep, "/")
