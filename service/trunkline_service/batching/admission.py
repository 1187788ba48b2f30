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


class Pace:
    """How fast images leave, as batches show it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds_per_image = 0.02

    def observe(self, images: int, seconds: float) -> None:
        """Learns from a batch."""
        with self._lock:
            self.seconds_per_image += _SMOOTHING * (seconds / images - self.seconds_per_image)


def check_room(
    limits: QueueLimits, lane: Lane, images: int, size: int, waiting: int, waiting_bytes: int, pace: Pace
) -> None:
    """Whether a request fits beside what waits.

    Args:
        limits: The bounds. Bulk work is admitted to a part of them only, so that it never locks interactive
            callers out.
        lane: Of the request.
        images: How many it has.
        size: Their bytes together.
        waiting: Images that were admitted and not yet answered.
        waiting_bytes: Their bytes.
        pace: How fast they leave.

    Raises:
        InvalidArgument: It would not fit into an empty queue either.
        Overloaded: It does not fit now; says when to come again.
    """
    share = _BULK_SHARE if lane == "bulk" else 1.0
    most_images = max(1, int(limits.max_images * share))
    most_bytes = int(limits.max_bytes * share)
    if images > most_images or size > most_bytes:
        raise InvalidArgument(
            f"a request of {images} images and {size} bytes is more than the whole {lane} queue "
            f"({most_images} images, {most_bytes} bytes); send fewer images per call"
        )
    if waiting + images > most_images or waiting_bytes + size > most_bytes:
        wait = min(_LONGEST_RETRY_S, max(_SHORTEST_RETRY_S, waiting * pace.seconds_per_image))
        raise Overloaded(
            f"the server is full: {waiting} images and {waiting_bytes} bytes are waiting; "
            f"try again in {wait:.2f} s",
            retry_after_s=wait,
        )


class Admission:
    """Counts what was admitted and not yet answered, and refuses at once what does not fit."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._images = 0
        self._bytes = 0
        self._pace = Pace()

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
            lane: See `check_room`.

        Raises:
            InvalidArgument, Overloaded: See `check_room`.
        """
        with self._lock:
            check_room(self._limits, lane, images, size, self._images, self._bytes, self._pace)
            self._images += images
            self._bytes += size

    def release(self, images: int, size: int) -> None:
        """Counts finished or dropped images out."""
        with self._lock:
            self._images -= images
            self._bytes -= size

    def observe(self, images: int, seconds: float) -> None:
        """Learns from a batch how fast images leave."""
        self._pace.observe(images, seconds)
