"""The engine: admission -> decode pool -> a device."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from trunkline_service.batching.admission import Admission
from trunkline_service.batching.cache import EmbeddingCache
from trunkline_service.batching.caching import CachingGate
from trunkline_service.batching.decoder import DecodePool
from trunkline_service.batching.device import STALL_S, Device, LocalDevice
from trunkline_service.batching.engine import Caller, Embedded
from trunkline_service.batching.mailbox import Clock
from trunkline_service.batching.observer import NullObserver, Observer
from trunkline_service.batching.request import Lane, Request, Slot, cost_of
from trunkline_service.errors import Cancelled, DeadlineExpired, TrunklineError, Unavailable
from trunkline_service.images.inputs import ImageInput
from trunkline_service.models.registry import LiveModels
from trunkline_service.settings import MIB, Settings

_log = logging.getLogger(__name__)


_Decode = Callable[[Sequence[Slot]], None]


class Quota(Protocol):
    """Bounds on admitted work: of this process, or of several together."""

    def admit(self, images: int, size: int, lane: Lane = "interactive") -> None:
        """See ``Admission.admit``."""

    def release(self, images: int, size: int) -> None:
        """See ``Admission.release``."""

    @property
    def images(self) -> int:
        """Admitted and not yet answered."""

    @property
    def bytes(self) -> int:
        """Their bytes."""


class Cache(Protocol):
    """Answers slots without decoding them, where their vector is known or on its way."""

    def claim(self, slots: Sequence[Slot], decode: _Decode, later: _Decode) -> None:
        """Settles what is known and has the others decoded; see ``CachingGate.claim``."""

    def settled(self, slot: Slot, error: TrunklineError | None) -> None:
        """Told of every slot that has ended, however it did; before its caller is."""

    def leave(self, slots: Sequence[Slot]) -> None:
        """Told that nobody waits for these slots any more."""


class Pipeline:
    """Embeds images: an `Engine`.

    An image is decoded before it is queued for a batch, so a bad one never gets there. The same code stands
    in a process that runs models itself and in one that has a link to such a process.

    Args:
        device: Runs the models.
        admission: The bounds.
        settings: For the decode pool.
        observer: Told what happens.
        clock: Monotonic seconds.
        cache: Looked up before anything is decoded.
    """

    def __init__(
        self,
        device: Device,
        admission: Quota,
        settings: Settings,
        observer: Observer | None = None,
        clock: Clock = time.monotonic,
        cache: Cache | None = None,
    ) -> None:
        self.admission = admission
        self._device = device
        self._settings = settings
        self._clock = clock
        self._cache = cache
        self._decoder = DecodePool(settings, clock, observer or NullObserver())
        self._closing = threading.Event()

    def embed(self, model: str, images: Sequence[ImageInput], caller: Caller) -> Embedded:
        """See ``Engine.embed``."""
        # The caller's time runs while its model is loaded, too.
        arrived = self._clock()
        destination = self._device.open(model)
        deadline = None if caller.timeout_s is None else arrived + caller.timeout_s
        decode = caller.decode or self._settings.decode
        request = Request(destination, len(images), caller.lane, deadline, decode, self._settled)
        slots = self._begin(request, images, caller)
        if not request.wait(None if deadline is None else max(0.0, deadline - self._clock())):
            request.cancel()
            self._leave(slots)
            raise DeadlineExpired(
                f"{len(images)} images were not served within {caller.timeout_s:.1f} s; "
                "allow more time, send fewer images per call, or slow down"
            )
        if request.cancelled:
            self._leave(slots)
            raise Cancelled("the caller cancelled the request")
        _raise_if_cut_off(request)
        return Embedded(request.vectors, request.errors, destination.card, decode, request.timings)

    def trouble(self) -> str | None:
        """See ``Engine.trouble``."""
        return self._decoder.stage.trouble(STALL_S) or self._device.trouble()

    def close(self, timeout_s: float) -> None:
        """Refuses new work, finishes what was admitted within ``timeout_s``, joins the threads."""
        deadline = self._clock() + timeout_s
        self._closing.set()
        # In the order of the flow: what is decoded last must still be run.
        abandoned = self._decoder.stage.close(deadline) + self._device.close(deadline)
        if abandoned:
            _log.error(
                "%d admitted images were given up: they did not finish in %.0f s", abandoned, timeout_s
            )

    def queued(self) -> dict[str, int]:
        """Images that wait, by stage."""
        return {"decode": len(self._decoder.stage.mailbox), "infer": self._device.queued()}

    def _begin(self, request: Request, images: Sequence[ImageInput], caller: Caller) -> list[Slot]:
        if self._closing.is_set():
            raise Unavailable("the server is shutting down; send the request to another one")
        preprocess = request.destination.preprocess
        slots = [
            Slot(request, index, image, cost_of(image, preprocess)) for index, image in enumerate(images)
        ]
        self.admission.admit(len(slots), sum(slot.cost for slot in slots), caller.lane)
        if caller.on_cancel is not None:
            caller.on_cancel(request.cancel)
        if self._cache is None:
            self._decode(slots)
        else:
            self._cache.claim(slots, self._decode, self._decode_later)
        return slots

    def _decode(self, slots: Sequence[Slot]) -> None:
        """A slot that comes alone is decoded by the thread that brings it."""
        try:
            self._decoder.decode(slots)
        except Unavailable as exc:
            _refuse(slots, exc)

    def _decode_later(self, slots: Sequence[Slot]) -> None:
        """For threads that have other things to do."""
        try:
            self._decoder.stage.put(slots)
        except Unavailable as exc:
            _refuse(slots, exc)

    def _leave(self, slots: Sequence[Slot]) -> None:
        if self._cache is not None:
            self._cache.leave(slots)

    def _settled(self, slot: Slot, error: TrunklineError | None) -> None:
        self.admission.release(1, slot.cost)
        if self._cache is not None:
            self._cache.settled(slot, error)


def local_engine(
    models: LiveModels, settings: Settings, observer: Observer | None = None, clock: Clock = time.monotonic
) -> Pipeline:
    """The engine of a process that runs its models itself."""
    admission = Admission(settings.queue)
    device = LocalDevice(models, settings.queue, admission.observe, clock, observer)
    cache = None
    if settings.cache_mb:
        cache = CachingGate(EmbeddingCache(settings.cache_mb * MIB, observer), clock, observer)
    return Pipeline(device, admission, settings, observer, clock, cache)


def _refuse(slots: Sequence[Slot], why: Unavailable) -> None:
    """The decode pool closed after they were admitted, and took none of them."""
    for slot in slots:
        slot.settle(why)


def _raise_if_cut_off(request: Request) -> None:
    """A request of which nothing was served, as what serves went away or time was up, is refused as a whole."""
    errors = list(request.errors.values())
    if len(errors) == len(request.vectors):
        for kind in (Unavailable, DeadlineExpired):
            if errors and all(isinstance(error, kind) for error in errors):
                raise errors[0]
