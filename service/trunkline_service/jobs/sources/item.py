"""One image of a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from trunkline_service.collections.metadata import Scalar

__all__ = ["Reader", "Scalar", "SourceItem"]

Reader: TypeAlias = Callable[[int], bytes]
"""``read(limit)`` gives the bytes of one image.

It reads at most ``limit`` + 1 bytes, never waits for a FIFO or a device, and raises ``ImageError``
alone: ``UnreadableFile`` with the reason, or ``ImageTooLarge`` where there are more than ``limit``.
Readers are small frozen dataclasses, so that they can travel to other processes.
"""


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One image of a source, not read yet.

    Attributes:
        id: Stable across runs.
        source: Where the bytes come from, as a row records it: an absolute path or a URL, with ``#``
            and a name or a number where a file holds many (``/a/0.tar#b.jpg``, ``/a/t.parquet#17``).
            Empty where nothing can read them again.
        read: Gives the bytes; see ``Reader``.
        label: A class, several of a multi-label source, or None.
        split: ``train``, ``val``, ``test`` or whatever the source says, or None.
        size: Bytes, where listing tells.
        mtime: Seconds since the epoch, where listing tells.
        etag: The store's tag of these bytes, where listing tells.
        metadata: Values of the user's columns.
    """

    id: str
    source: str
    read: Reader
    label: str | tuple[str, ...] | None = None
    split: str | None = None
    size: int | None = None
    mtime: float | None = None
    etag: str | None = None
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
