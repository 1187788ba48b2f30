"""Where a job's images come from. First light: a folder; its layout gives labels and splits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trunkline_service.errors import InvalidArgument

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
)
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class SourceItem:
    """One image of a source, not read yet.

    Attributes:
        id: Stable across runs: the path below the source, with forward slashes.
        path: Where to read it.
        label: From the parent folder, or None.
        split: ``train``, ``val`` or ``test`` from a folder of such a name above, or None.
        size: Bytes, as the file system says.
        mtime: Seconds since the epoch.
    """

    id: str
    path: Path
    label: str | None
    split: str | None
    size: int
    mtime: float


@dataclass(frozen=True)
class FolderScan:
    """What a folder holds.

    Attributes:
        items: By id.
        skipped: Files without an image's suffix, by suffix.
        unreadable: Folders that could not be listed, with the reason; their images are missing here.
    """

    items: tuple[SourceItem, ...]
    skipped: dict[str, int]
    unreadable: tuple[str, ...] = ()

    def describe(self) -> str:
        """The interpretation, to be shown before the work begins."""
        labels = Counter(item.label for item in self.items if item.label is not None)
        splits = Counter(item.split for item in self.items if item.split is not None)
        parts = [f"{len(self.items):,} images"]
        if labels:
            shown = ", ".join(label for label, _count in labels.most_common(6))
            parts.append(
                f"{len(labels)} labels from folder names ({shown}{', ...' if len(labels) > 6 else ''})"
            )
        else:
            parts.append("no labels (no folders below)")
        if splits:
            parts.append("splits " + ", ".join(f"{name} {count:,}" for name, count in sorted(splits.items())))
        if self.skipped:
            total = sum(self.skipped.values())
            parts.append(f"{total:,} other files left out ({', '.join(sorted(self.skipped))})")
        if self.unreadable:
            parts.append(f"{len(self.unreadable)} folders can't be read ({'; '.join(self.unreadable[:3])})")
        return "; ".join(parts)


def scan_folder(root: Path) -> FolderScan:
    """Finds the images below a folder.

    The parent folder is the label and a folder ``train``, ``val``, ``validation`` or ``test`` anywhere
    above is the split. Hidden files and folders are left out; links to folders are not followed.

    Raises:
        InvalidArgument: There is no such folder, or no image in it.
    """
    if not root.is_dir():
        raise InvalidArgument(f"{str(root)!r} is not a folder; give one that holds images")
    items: list[SourceItem] = []
    skipped: Counter[str] = Counter()
    unreadable: list[str] = []
    for path in _files(root, unreadable):
        suffix = path.suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            skipped[suffix or "no suffix"] += 1
            continue
        items.append(_item(root, path))
    if not items:
        raise InvalidArgument(
            f"no image below {str(root)!r} (looked for {', '.join(sorted(IMAGE_SUFFIXES))}); "
            f"{sum(skipped.values())} other files are there"
        )
    return FolderScan(tuple(sorted(items, key=lambda item: item.id)), dict(skipped), tuple(unreadable))


def _files(root: Path, unreadable: list[str]) -> Iterator[Path]:
    def note(exc: OSError) -> None:
        unreadable.append(f"{text_of(Path(exc.filename))}: {exc.strerror}")

    for folder, subfolders, names in os.walk(root, onerror=note):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                yield Path(folder, name)


def _item(root: Path, path: Path) -> SourceItem:
    relative = path.relative_to(root)
    folders = relative.parts[:-1]
    split = next((SPLITS[part.lower()] for part in folders if part.lower() in SPLITS), None)
    labels = [part for part in folders if part.lower() not in SPLITS]
    try:
        status = path.stat()
        size, mtime = status.st_size, status.st_mtime
    except OSError:
        # A broken link, say: reading it will say why, and the row will hold the reason.
        size, mtime = 0, 0.0
    label = text_of(Path(labels[-1])) if labels else None
    return SourceItem(text_of(relative), path, label, split, size, mtime)


def text_of(path: Path) -> str:
    """A path as text. Old data sets hold names that are no UTF-8; those bytes are escaped."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
