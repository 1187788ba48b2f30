"""Bounds on admitted work, in images and in bytes (contract 5)."""

from __future__ import annotations

import threading

from trunkline_service.batching.request import Lane
from trunkline_service.errors import InvalidArgument, Overloaded
from trunkline_service.settings import QueueLimits

# Of both bounds.
_BULK_SHARE = 0.75
_SHORTEST_RETRY_S = 0.05
_LONGEST_RETRY_S = 5.0
# Weight of the newest batch in the running mean of seconds an image: about the last twenty count.
_SMOOTHING = 0.05


class Admission:
    """Counts what was admitted and not yet answered, and refuses at once what does not fit."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._images = 0
        self._bytes = 0
        self._seconds_per_image = 0.02

    @property
    def images(self) -> int:
        """Images admitted and not yet answered."""
        return self._images

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return self._bytes

    def admit(self, images: int, size: int, lane: Lane = "interactive") -> None:
        """Counts a request in, whole or not at all.

        Args:
            images: How many.
            size: Their bytes together.
            lane: Bulk work is admitted to a part of the bounds only, so that it never locks interactive
                callers out.

        Raises:
            InvalidArgument: It would not fit into an empty queue either.
            Overloaded: It does not fit now; says when to come again.
        """
        share = _BULK_SHARE if lane == "bulk" else 1.0
        most_images = max(1, int(self._limits.max_images * share))
        most_bytes = int(self._limits.max_bytes * share)
        if images > most_images or size > most_bytes:
            raise InvalidArgument(
                f"a request of {images} images and {size} bytes is more than the whole {lane} queue "
                f"({most_images} images, {most_bytes} bytes); send fewer images per call"
            )
        with self._lock:
            if self._images + images > most_images or self._bytes + size > most_bytes:
                wait = min(_LONGEST_RETRY_S, max(_SHORTEST_RETRY_S, self._images * self._seconds_per_image))
                raise Overloaded(
                    f"the server is full: {self._images} images and {self._bytes} bytes are waiting; "
                    f"try again in {wait:.2f} s",
                    retry_after_s=wait,
                )
            self._images += images
            self._bytes += size

    def release(self, images: int, size: int) -> None:
        """Counts finished or dropped images out."""
        with self._lock:
            self._images -= images
            self._bytes -= size

    def observe(self, images: int, seconds: float) -> None:
        """Learns from a batch how fast images leave."""
        with self._lock:
            self._seconds_per_image += _SMOOTHING * (seconds / images - self._seconds_per_image)
