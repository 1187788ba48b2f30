"""The engine of this process: decode pool -> batcher -> ONNX Runtime."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from trunkline_service.batching.admission import Admission
from trunkline_service.batching.batcher import Batcher
from trunkline_service.batching.decoder import DecodePool
from trunkline_service.batching.engine import Caller, Embedded
from trunkline_service.batching.mailbox import Clock
from trunkline_service.batching.observer import NullObserver, Observer
from trunkline_service.batching.request import Request, Slot, cost_of
from trunkline_service.errors import Cancelled, DeadlineExpired, TrunklineError, Unavailable
from trunkline_service.images.inputs import ImageInput
from trunkline_service.models.registry import LiveModels
from trunkline_service.models.session import ModelSession
from trunkline_service.settings import Settings

# A single batch that takes longer than this means that the device hangs.
_STALL_S = 120.0
_log = logging.getLogger(__name__)


class LocalEngine:
    """Decodes in a pool of threads and runs each model from a thread of its own.

    Batching is greedy: the batcher takes what has gathered as soon as the device is free; there is no
    timer. An image is decoded before it is queued for a batch, so a bad one never gets there.
    """

    def __init__(
        self,
        models: LiveModels,
        settings: Settings,
        observer: Observer | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.admission = Admission(settings.queue)
        self._models = models
        self._settings = settings
        self._observer: Observer = observer or NullObserver()
        self._clock = clock
        self._guard = threading.Lock()
        self._batchers: dict[ModelSession, Batcher] = {}
        self._decoder = DecodePool(settings, self._settle, clock, self._observer)
        self._closing = False

    def embed(self, model: str, images: Sequence[ImageInput], caller: Caller) -> Embedded:
        """See ``Engine.embed``."""
        # The caller's time runs while its model is loaded, too.
        arrived = self._clock()
        session = self._models.get(model)
        deadline = None if caller.timeout_s is None else arrived + caller.timeout_s
        request = self._admit(session, images, caller, deadline)
        if not request.wait(None if deadline is None else max(0.0, deadline - self._clock())):
            request.cancel()
            raise DeadlineExpired(
                f"{len(images)} images were not served within {caller.timeout_s:.1f} s; "
                "allow more time, send fewer images per call, or slow down"
            )
        if request.cancelled:
            raise Cancelled("the caller cancelled the request")
        return Embedded(request.vectors, request.errors, session.card, request.decode, request.timings)

    def trouble(self) -> str | None:
        """See ``Engine.trouble``."""
        with self._guard:
            stages = [self._decoder.stage, *(batcher.stage for batcher in self._batchers.values())]
        return next((text for stage in stages if (text := stage.trouble(_STALL_S)) is not None), None)

    def close(self, timeout_s: float) -> None:
        """Refuses new work, finishes what was admitted within ``timeout_s``, joins the threads."""
        deadline = self._clock() + timeout_s
        with self._guard:
            self._closing = True
            batchers = list(self._batchers.values())
        # In the order of the flow: what is decoded last must still be run.
        abandoned = self._decoder.stage.close(deadline)
        abandoned += sum(batcher.stage.close(deadline) for batcher in batchers)
        if abandoned:
            _log.error(
                "%d admitted images were given up: they did not finish in %.0f s", abandoned, timeout_s
            )

    def queued(self) -> dict[str, int]:
        """Images that wait, by stage."""
        with self._guard:
            batchers = list(self._batchers.values())
        return {
            "decode": len(self._decoder.stage.mailbox),
            "infer": sum(len(batcher.stage.mailbox) for batcher in batchers),
        }

    def _admit(
        self, session: ModelSession, images: Sequence[ImageInput], caller: Caller, deadline: float | None
    ) -> Request:
        decode = caller.decode or self._settings.decode
        preprocess = session.card.preprocess
        with self._guard:
            if self._closing:
                raise Unavailable("the server is shutting down; send the request to another one")
            request = Request(
                self._batcher(session), len(images), session.card.dim, caller.lane, deadline, decode
            )
            slots = [
                Slot(request, index, image, cost_of(image, preprocess)) for index, image in enumerate(images)
            ]
            # Under the guard, so that `close` can't slip in between admission and the mailbox.
            self.admission.admit(len(slots), sum(slot.cost for slot in slots), caller.lane)
            for slot in slots:
                self._decoder.stage.mailbox.put(slot)
        if caller.on_cancel is not None:
            caller.on_cancel(request.cancel)
        return request

    def _batcher(self, session: ModelSession) -> Batcher:
        if session not in self._batchers:
            self._batchers[session] = Batcher(
                session,
                self._settings.queue.buckets,
                self._settle,
                self.admission.observe,
                self._clock,
                self._observer,
            )
        return self._batchers[session]

    def _settle(self, slot: Slot, error: TrunklineError | None) -> None:
        self.admission.release(1, slot.cost)
        slot.settle(error)
