"""The decode pool: bytes -> the uint8 pixels a network takes, one image at a time."""

from __future__ import annotations

from collections.abc import Callable

from trunkline_service.batching.mailbox import Clock
from trunkline_service.batching.observer import Observer
from trunkline_service.batching.request import Slot
from trunkline_service.batching.stage import Stage
from trunkline_service.errors import ImageError, TrunklineError, Unavailable
from trunkline_service.images.inputs import prepare
from trunkline_service.settings import Settings

Settle = Callable[[Slot, TrunklineError | None], None]


class DecodePool:
    """Threads that decode for all models; Pillow and libjpeg let go of the interpreter's lock meanwhile."""

    def __init__(self, settings: Settings, settle: Settle, clock: Clock, observer: Observer) -> None:
        self._settings = settings
        self._settle = settle
        self._clock = clock
        self._observer = observer
        self.stage = Stage(
            "decode", settings.worker_threads, lambda _waiting: 1, self._decode, settle, clock, observer
        )

    def _decode(self, slots: list[Slot]) -> None:
        for slot in slots:
            started = self._clock()
            destination = slot.request.destination
            assert slot.image is not None
            try:
                slot.pixels = prepare(
                    slot.image, destination.preprocess, slot.request.decode, self._settings.image
                )
            except ImageError as exc:
                self._observer.image_failed(exc.reason)
                self._settle(slot, exc)
                continue
            slot.image = None
            slot.decode_s = self._clock() - started
            self._observer.decoded(slot.decode_s)
            try:
                destination.accept(slot)
            except Unavailable as exc:
                self._settle(slot, exc)
