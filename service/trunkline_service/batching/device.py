"""The seam between decoded images and whatever runs the models: this process, or one that owns the device."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from trunkline_service.batching.batcher import Batcher
from trunkline_service.batching.mailbox import Clock
from trunkline_service.batching.observer import NullObserver, Observer
from trunkline_service.batching.request import Destination
from trunkline_service.errors import Unavailable
from trunkline_service.models.registry import LiveModels
from trunkline_service.models.session import ModelSession
from trunkline_service.settings import QueueLimits

# A single batch that takes longer than this means that the device hangs.
STALL_S = 120.0

Learn = Callable[[int, float], None]


class Device(Protocol):
    """Runs models."""

    def open(self, reference: str) -> Destination:
        """Where images for a model go: ``name``, ``name@version`` or empty for the default.

        Raises:
            TrunklineError: See ``LiveModels.get``.
            Unavailable: The device's process is away.
        """

    def trouble(self) -> str | None:
        """Why no more answers should be expected, if so."""

    def queued(self) -> int:
        """Decoded images that wait."""

    def close(self, deadline: float) -> int:
        """Finishes what was accepted until ``deadline`` on its clock; returns how many images were given up."""


class LocalDevice:
    """The device of this process: a batcher for each model that is used.

    Args:
        models: The loaded models.
        limits: For the batch sizes.
        learn: Told of every batch's images and seconds.
        clock: Monotonic seconds.
        observer: Told of batches and dropped images.
    """

    def __init__(
        self,
        models: LiveModels,
        limits: QueueLimits,
        learn: Learn,
        clock: Clock,
        observer: Observer | None = None,
    ) -> None:
        self._models = models
        self._limits = limits
        self._learn = learn
        self._clock = clock
        self._observer: Observer = observer or NullObserver()
        self._guard = threading.Lock()
        self._batchers: dict[ModelSession, Batcher] = {}
        self._closed = False

    def open(self, reference: str) -> Batcher:
        """See `Device`."""
        session = self._models.get(reference)
        with self._guard:
            if self._closed:
                # A batcher that is made now would be closed by nobody.
                raise Unavailable("the server is shutting down; send the request to another one")
            batcher = self._batchers.get(session)
            if batcher is None:
                batcher = self._batchers[session] = self._batcher(session)
            return batcher

    def trouble(self) -> str | None:
        """See `Device`."""
        found = (batcher.stage.trouble(STALL_S) for batcher in self._all())
        return next((text for text in found if text is not None), None)

    def queued(self) -> int:
        """See `Device`."""
        return sum(len(batcher.stage.mailbox) for batcher in self._all())

    def close(self, deadline: float) -> int:
        """See `Device`."""
        with self._guard:
            self._closed = True
        return sum(batcher.stage.close(deadline) for batcher in self._all())

    def _all(self) -> list[Batcher]:
        with self._guard:
            return list(self._batchers.values())

    def _batcher(self, session: ModelSession) -> Batcher:
        buckets = sorted({min(size, session.plan.batch) for size in self._limits.buckets})
        return Batcher(session, buckets, self._learn, self._clock, self._observer)
