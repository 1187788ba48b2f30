"""The batcher of one model: takes what has gathered as soon as the device is free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.buckets import batch_size
from trunkline_service.batching.mailbox import Clock
from trunkline_service.batching.observer import Observer
from trunkline_service.batching.request import Slot
from trunkline_service.batching.stage import Stage
from trunkline_service.errors import NonFiniteEmbedding
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.card import ModelCard
from trunkline_service.models.session import ModelSession


class Batcher:
    """The threads that run a session, as many as its plan has runs at once.

    Greedy and without a timer: while batches run, the next one gathers. It counts images, not requests.

    Args:
        session: The model; nobody else runs it.
        buckets: Batch sizes, warmed already.
        learn: Told how many images a batch had and how many seconds it took.
        clock: Monotonic seconds.
        observer: Told of batches.
    """

    def __init__(
        self,
        session: ModelSession,
        buckets: Sequence[int],
        learn: Callable[[int, float], None],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.session = session
        self.card: ModelCard = session.card
        self.preprocess: Preprocess = session.card.preprocess
        self._clock = clock
        self._observer = observer
        self._learn = learn
        self._buckets = buckets
        # A decoding thread that waits for a GPU decodes nothing; on a CPU somebody must do the work anyway.
        self._at_once = session.device.kind == "cpu"
        self._own = threading.local()
        self.stage = Stage(
            f"infer {session.card.reference}",
            session.plan.runs,
            lambda waiting: batch_size(waiting, buckets),
            self._run,
            clock,
            observer,
        )

    def room(self, slot: Slot) -> None:
        """See `Destination`: pixels may lie anywhere in this process."""

    def accept(self, slot: Slot) -> None:
        """See `Destination`."""
        if self._at_once:
            self.stage.handle(slot)
        else:
            self.stage.put((slot,))

    def _run(self, slots: list[Slot]) -> None:
        # Dead slots left the queue after the size was chosen, so what is left is cut to full buckets again.
        while slots:
            size = batch_size(len(slots), self._buckets)
            self._run_bucket(slots[:size])
            slots = slots[size:]

    def _run_bucket(self, slots: list[Slot]) -> None:
        batch = self._gather(slots)
        started = self._clock()
        vectors = self.session.run(batch)
        seconds = self._clock() - started
        self._learn(len(slots), seconds)
        self._observer.batch(self.card.reference, len(slots), seconds)
        usable: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(vectors), axis=1)
        for slot, vector, finite in zip(slots, vectors, usable, strict=True):
            slot.infer_s, slot.batch = seconds, len(slots)
            if finite:
                slot.store(vector)
                slot.settle(None)
            else:
                self._observer.image_failed(NonFiniteEmbedding.reason)
                slot.settle(self._non_finite())

    def _gather(self, slots: list[Slot]) -> NDArray[np.uint8]:
        first = slots[0].pixels
        assert first is not None
        if len(slots) == 1:
            return first[np.newaxis]
        gathered: NDArray[np.uint8] | None = getattr(self._own, "gathered", None)
        if gathered is None:
            gathered = self._own.gathered = np.empty((self._buckets[-1], *first.shape), np.uint8)
        for row, slot in enumerate(slots):
            assert slot.pixels is not None
            gathered[row] = slot.pixels
        return gathered[: len(slots)]

    def _non_finite(self) -> NonFiniteEmbedding:
        return NonFiniteEmbedding(
            f"model {self.card.reference} gives a vector with NaN or infinity for this image; "
            "leave the image out, or use another model or precision"
        )
