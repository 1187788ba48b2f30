"""A request on its way through the stages, and its slots: one for each image.

Each image moves on alone (decoded, gathered into whatever batch leaves next), so one bad or slow image
holds nobody up. The caller waits on one event for all of its slots.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled, DeadlineExpired, TrunklineError
from trunkline_service.images.inputs import ImageInput
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.settings import DecodeMode

Lane = Literal["interactive", "bulk"]


@dataclass(frozen=True)
class Timings:
    """Mean seconds an image of the request spent in each stage."""

    decode_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0


class Destination(Protocol):
    """Where decoded images of a request go: the batcher of one model."""

    @property
    def preprocess(self) -> Preprocess:
        """What its network takes."""

    def accept(self, slot: Slot) -> None:
        """Queues a decoded slot."""


class Request:
    """Images of one caller, with room for their vectors.

    Attributes:
        destination: The batcher that will run them.
        vectors: float32 [N, dim]; NaN where an image failed.
        errors: Reasons by image.
        deadline: On the clock of the engine, in seconds; None for no limit.
        decode: How its JPEGs are decoded.
    """

    def __init__(
        self,
        destination: Destination,
        images: int,
        dim: int,
        lane: Lane,
        deadline: float | None,
        decode: DecodeMode = "exact",
    ) -> None:
        self.destination = destination
        self.decode = decode
        self.vectors: NDArray[np.float32] = np.full((images, dim), np.nan, np.float32)
        self.errors: dict[int, TrunklineError] = {}
        self.lane = lane
        self.deadline = deadline
        self._left = images
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._cancelled = False
        self._spent = np.zeros(3)
        if not images:
            self._done.set()

    def cancel(self) -> None:
        """The caller went away: slots that wait are dropped when their turn comes."""
        self._cancelled = True
        self._done.set()

    def verdict(self, now: float) -> TrunklineError | None:
        """Why work on this request is pointless by now, if it is."""
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
        return self._done.wait(timeout)

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancelled

    @property
    def timings(self) -> Timings:
        """Means over the images; to be read when the request is finished."""
        decode, queue, infer = self._spent / max(1, len(self.vectors))
        return Timings(float(decode), float(queue), float(infer))

    def count_down(self, slot: Slot, error: TrunklineError | None) -> None:
        """Takes note of a settled slot; the last one wakes the caller."""
        with self._lock:
            if error is not None:
                self.errors[slot.index] = error
            self._spent += (slot.decode_s, slot.queue_s, slot.infer_s)
            self._left -= 1
            finished = self._left == 0
        if finished:
            self._done.set()


@dataclass(slots=True)
class Slot:
    """One image of a request, as it passes the stages.

    Attributes:
        request: Whose image it is.
        index: Its position there.
        image: What came in; dropped once it is decoded.
        cost: Bytes it was admitted with.
        pixels: uint8 [height, width, 3] once decoded.
        enqueued: When it entered the queue it stands in, on the engine's clock.
        decode_s: Seconds spent decoding.
        queue_s: Seconds spent waiting, in both queues.
        infer_s: Seconds that its batch ran.
        settled: Whether it has succeeded or failed.
    """

    request: Request
    index: int
    image: ImageInput | None
    cost: int
    pixels: NDArray[np.uint8] | None = None
    enqueued: float = 0.0
    decode_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    settled: bool = False

    @property
    def lane(self) -> Lane:
        """The request's lane."""
        return self.request.lane

    def store(self, vector: NDArray[np.float32]) -> None:
        """Puts the vector, [dim] float32, into the request's row."""
        self.request.vectors[self.index] = vector

    def settle(self, error: TrunklineError | None) -> None:
        """Ends this slot: served if ``error`` is None. Its image and pixels are let go.

        Raises:
            RuntimeError: It was settled before.
        """
        if self.settled:
            raise RuntimeError(f"slot {self.index} was settled twice")
        self.settled = True
        self.image = self.pixels = None
        self.request.count_down(self, error)


def cost_of(image: ImageInput, preprocess: Preprocess) -> int:
    """Bytes that a waiting image holds: as it came, or decoded for the network, whichever is more."""
    height, width = preprocess.input_size
    return max(len(image.data), height * width * 3)
