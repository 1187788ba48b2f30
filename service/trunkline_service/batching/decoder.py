"""The decode pool: bytes -> the uint8 pixels a network takes, one image at a time."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline_service.batching.mailbox import Clock
from trunkline_service.batching.observer import Observer
from trunkline_service.batching.request import Request, Slot
from trunkline_service.batching.stage import Stage
from trunkline_service.errors import DeadlineExpired, ImageError, Unavailable
from trunkline_service.images.inputs import prepare
from trunkline_service.settings import Settings


class DecodePool:
    """Threads that decode for all models; Pillow and libjpeg let go of the interpreter's lock meanwhile.

    An image that comes alone is decoded by the thread that brings it, as long as there is a place.
    """

    def __init__(self, settings: Settings, clock: Clock, observer: Observer) -> None:
        self._settings = settings
        self._clock = clock
        self._observer = observer
        self.stage = Stage("decode", settings.worker_threads, lambda _waiting: 1, self._work, clock, observer)

    def decode(self, slots: Sequence[Slot]) -> None:
        """Sees to it that slots of a `Request` are decoded and handed to its destination.

        Raises:
            Unavailable: It is closed.
        """
        if len(slots) == 1:
            self.stage.handle(slots[0])
        else:
            self.stage.put(slots)

    def _work(self, slots: list[Slot]) -> None:
        for slot in slots:
            self._decode(slot)

    def _decode(self, slot: Slot) -> None:
        request = slot.request
        assert isinstance(request, Request)
        assert slot.image is not None
        destination = request.destination
        started = self._clock()
        try:
            room = destination.room(slot)
            slot.pixels = prepare(
                slot.image, destination.preprocess, request.decode, self._settings.image, room
            )
        except ImageError as exc:
            self._observer.image_failed(exc.reason)
            slot.settle(exc)
            return
        except DeadlineExpired as exc:
            self._observer.dropped(exc.reason)
            slot.settle(exc)
            return
        except Unavailable as exc:
            slot.settle(exc)
            return
        slot.image = None
        slot.decode_s = self._clock() - started
        self._observer.decoded(slot.decode_s)
        try:
            destination.accept(slot)
        except Unavailable as exc:
            slot.settle(exc)
