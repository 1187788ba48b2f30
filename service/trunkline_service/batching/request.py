"""A request on its way through the stages, and its slots: one for each image.

Each image moves on alone (decoded, gathered into whatever batch leaves next), so one bad or slow image
holds nobody up. The caller waits on one event for all of its slots.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled, DeadlineExpired, TrunklineError
from trunkline_service.images.inputs import ImageInput
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.card import ModelCard
from trunkline_service.settings import DecodeMode

Lane = Literal["interactive", "bulk"]


@dataclass(frozen=True)
class Timings:
    """Mean seconds an image of the request spent in each stage."""

    decode_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0


class Owner(Protocol):
    """Whose slots they are: a request of this process, or one that came over a link."""

    @property
    def lane(self) -> Lane:
        """Of all its slots."""

    def verdict(self, now: float) -> TrunklineError | None:
        """Why work on it is pointless by now, if it is."""

    def store(self, index: int, vector: NDArray[np.float32]) -> None:
        """Takes the vector, [dim] float32, of one slot; it is copied."""

    def settled(self, slot: Slot, error: TrunklineError | None) -> None:
        """Told once for each slot that it has ended: served if ``error`` is None."""


class Destination(Protocol):
    """Where decoded images of a request go: the batcher of one model, or a link to it."""

    @property
    def card(self) -> ModelCard:
        """Of the model."""

    @property
    def preprocess(self) -> Preprocess:
        """What its network takes."""

    def room(self, slot: Slot) -> NDArray[np.uint8] | None:
        """Where the slot's pixels should be put, [height, width, 3]; None for wherever the decoder likes.

        Raises:
            DeadlineExpired: There was none in time.
            Unavailable: It takes no more slots.
        """

    def accept(self, slot: Slot) -> None:
        """Takes a decoded slot, and settles it sooner or later.

        Raises:
            Unavailable: It takes no more slots.
        """


class Request:
    """Images of one caller, with room for their vectors; an `Owner`.

    Args:
        destination: The batcher that will run them.
        images: How many.
        lane: ``interactive`` or ``bulk``.
        deadline: On the clock of the engine, in seconds; None for no limit.
        decode: How its JPEGs are decoded.
        on_settled: Told of each slot that has ended, before the caller is.

    Attributes:
        vectors: float32 [N, dim]; NaN where an image failed.
        errors: Reasons by image.
    """

    def __init__(
        self,
        destination: Destination,
        images: int,
        lane: Lane,
        deadline: float | None,
        decode: DecodeMode = "exact",
        on_settled: Callable[[Slot, TrunklineError | None], None] | None = None,
    ) -> None:
        self.destination = destination
        self.decode = decode
        self.vectors: NDArray[np.float32] = np.full((images, destination.card.dim), np.nan, np.float32)
        self.errors: dict[int, TrunklineError] = {}
        self._lane: Lane = lane
        self.deadline = deadline
        self._left = images
        self._lock = threading.Lock()
        # Taken until the request is finished. An event would be three times the work, on both sides.
        self._unfinished = threading.Lock()
        self._finished = not images
        if images:
            self._unfinished.acquire()
        self._cancelled = False
        self._on_settled = on_settled
        self._hooks: list[Callable[[], None]] = []
        self._decode_s = self._queue_s = self._infer_s = 0.0

    @property
    def lane(self) -> Lane:
        """See `Owner`."""
        return self._lane

    def cancel(self) -> None:
        """The caller went away: slots that wait are dropped when their turn comes."""
        with self._lock:
            self._cancelled = True
            hooks, self._hooks = self._hooks, []
            self._finish()
        for hook in hooks:
            hook()

    def when_cancelled(self, hook: Callable[[], None]) -> None:
        """Calls ``hook`` if the request is cancelled before it is answered, or was already."""
        with self._lock:
            if not self._cancelled:
                self._hooks.append(hook)
                return
        hook()

    def verdict(self, now: float) -> TrunklineError | None:
        """See `Owner`."""
        if self._cancelled:
            return Cancelled("the caller cancelled the request")
        if self.deadline is not None and now >= self.deadline:
            return DeadlineExpired(
                "the deadline passed before the image was served; "
                "allow more time, send fewer images per call, or slow down"
            )
        return None

    def wait(self, timeout: float | None) -> bool:
        """Blocks until every slot is finished, or the request is cancelled; False if time ran out."""
        longest = -1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        if not self._unfinished.acquire(timeout=longest):
            return False
        self._unfinished.release()
        return True

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancelled

    @property
    def timings(self) -> Timings:
        """Means over the images; to be read when the request is finished."""
        images = max(1, len(self.vectors))
        return Timings(self._decode_s / images, self._queue_s / images, self._infer_s / images)

    def store(self, index: int, vector: NDArray[np.float32]) -> None:
        """See `Owner`."""
        self.vectors[index] = vector

    def settled(self, slot: Slot, error: TrunklineError | None) -> None:
        """See `Owner`; the last slot wakes the caller."""
        if self._on_settled is not None:
            self._on_settled(slot, error)
        with self._lock:
            if error is not None:
                self.errors[slot.index] = error
            self._decode_s += slot.decode_s
            self._queue_s += slot.queue_s
            self._infer_s += slot.infer_s
            self._left -= 1
            if not self._left:
                self._finish()

    def _finish(self) -> None:
        """Wakes the caller, once; to be called under the lock."""
        if not self._finished:
            self._finished = True
            self._unfinished.release()


@dataclass(slots=True)
class Slot:
    """One image of a request, as it passes the stages.

    Attributes:
        request: Whose image it is.
        index: Its position there.
        image: What came in; dropped once it is decoded.
        cost: Bytes it was admitted with.
        pixels: uint8 [height, width, 3] once decoded.
        room: Where its destination lent it room for the pixels; None where it did not.
        vacate: Gives that room back.
        number: What a link calls it; 0 while it has no name.
        enqueued: When it entered the queue it stands in, on the engine's clock.
        decode_s: Seconds spent decoding.
        queue_s: Seconds spent waiting, in both queues.
        infer_s: Seconds that its batch ran.
        batch: Images in that batch.
        settled: Whether it has succeeded or failed.
    """

    request: Owner
    index: int
    image: ImageInput | None
    cost: int
    pixels: NDArray[np.uint8] | None = None
    room: int | None = None
    vacate: Callable[[], None] | None = None
    number: int = 0
    enqueued: float = 0.0
    decode_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    batch: int = 1
    settled: bool = False

    @property
    def lane(self) -> Lane:
        """The request's lane."""
        return self.request.lane

    def store(self, vector: NDArray[np.float32]) -> None:
        """Puts the vector, [dim] float32, into the request's row."""
        self.request.store(self.index, vector)

    def settle(self, error: TrunklineError | None) -> None:
        """Ends this slot: served if ``error`` is None. Its image and pixels are let go.

        Raises:
            RuntimeError: It was settled before.
        """
        if self.settled:
            raise RuntimeError(f"slot {self.index} was settled twice")
        self.settled = True
        self.image = self.pixels = None
        if self.vacate is not None:
            self.vacate()
            self.vacate = None
        self.request.settled(self, error)


def cost_of(image: ImageInput, preprocess: Preprocess) -> int:
    """Bytes that a waiting image holds: as it came, or decoded for the network, whichever is more."""
    height, width = preprocess.input_size
    return max(len(image.data), height * width * 3)
