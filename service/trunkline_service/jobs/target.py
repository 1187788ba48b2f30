"""Where a job's images are embedded and stored: the seam between a job and a workspace or a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.known import Known
from trunkline_service.collections.partial import Touched
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import ImageError


@dataclass(frozen=True)
class Limits:
    """What one request of a job may carry.

    Attributes:
        images: In one request.
        bytes: Of them together.
        image_bytes: Of one image.
    """

    images: int
    bytes: int
    image_bytes: int


def within(images: Sequence[bytes], limits: Limits) -> Iterator[list[bytes]]:
    """Cuts images into requests by what they really hold; one that is too large goes alone."""
    part: list[bytes] = []
    size = 0
    for image in images:
        if part and (len(part) == limits.images or size + len(image) > limits.bytes):
            yield part
            part, size = [], 0
        part.append(image)
        size += len(image)
    if part:
        yield part


@dataclass(frozen=True, eq=False)
class Vectors:
    """The answer to a request.

    Attributes:
        vectors: float32 (N, dim); NaN where an image failed.
        errors: Images that can't be used, by position.
    """

    vectors: NDArray[np.float32]
    errors: Mapping[int, ImageError]


class Target(Protocol):
    """One collection, and what embeds for it. Threads may share it.

    Attributes:
        name: The collection's.
        spec: Its identity.
        model: ``name@version``: pinned, so that a version that is published meanwhile belongs to the next job.
        limits: Of one request.
    """

    name: str
    spec: CollectionSpec
    model: str
    limits: Limits

    def known(self) -> Known:
        """What it holds now."""
        ...

    def find(self, ids: Sequence[str]) -> Mapping[str, Row]:
        """The rows that there are of these ids."""
        ...

    def find_contents(self, content_hashes: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """Vectors of rows with these contents, decoded in the collection's mode, by content hash."""
        ...

    def embed(self, images: Sequence[bytes]) -> Vectors:
        """Embeds images in the bulk lane, in the collection's decode mode; waits where others fill the queue.

        Raises:
            SpaceMismatch: The model makes vectors of another space by now.
            TrunklineError: The request failed as a whole.
        """
        ...

    def upsert(self, rows: Sequence[Row]) -> None:
        """Stores new rows in one commit."""
        ...

    def refresh(self, rows: Sequence[Row]) -> None:
        """Stores rows anew that are there; labels, splits and users' columns that they don't name stay."""
        ...

    def touch(self, touched: Sequence[Touched]) -> None:
        """Notes where sources are now and how old; nothing else changes."""
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """One commit; gives how many rows there were."""
        ...

    def sources(self) -> Iterator[tuple[list[str], list[str]]]:
        """Ids and sources of all rows, in batches."""
        ...

    def version(self) -> int:
        """The latest version."""
        ...

    def tidy(self) -> None:
        """Merges what many commits scattered, where that can be done beside other writers."""
        ...
