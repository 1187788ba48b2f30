"""The batcher of one model: takes what has gathered as soon as the device is free."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.buckets import batch_size
from trunkline_service.batching.mailbox import Clock
from trunkline_service.batching.observer import Observer
from trunkline_service.batching.request import Slot
from trunkline_service.batching.stage import Stage
from trunkline_service.errors import NonFiniteEmbedding, TrunklineError
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.session import ModelSession

Settle = Callable[[Slot, TrunklineError | None], None]


class Batcher:
    """One thread that owns a session.

    Greedy and without a timer: while a batch runs, the next one gathers. It counts images, not requests.

    Args:
        session: The model; nobody else runs it.
        buckets: Batch sizes, warmed already.
        settle: Ends a slot.
        learn: Told how many images a batch had and how many seconds it took.
        clock: Monotonic seconds.
        observer: Told of batches.
    """

    def __init__(
        self,
        session: ModelSession,
        buckets: Sequence[int],
        settle: Settle,
        learn: Callable[[int, float], None],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.session = session
        self.preprocess: Preprocess = session.card.preprocess
        self._settle = settle
        self._clock = clock
        self._observer = observer
        self._learn = learn
        self._buckets = buckets
        height, width = session.input_size
        self._gathered = np.empty((buckets[-1], height, width, 3), np.uint8)
        self.stage = Stage(
            f"infer {session.card.reference}",
            1,
            lambda waiting: batch_size(waiting, buckets),
            self._run,
            settle,
            clock,
            observer,
        )

    def accept(self, slot: Slot) -> None:
        """Queues a decoded slot."""
        self.stage.mailbox.put(slot)

    def _run(self, slots: list[Slot]) -> None:
        # Dead slots left the queue after the size was chosen, so what is left is cut to full buckets again.
        while slots:
            size = batch_size(len(slots), self._buckets)
            self._run_bucket(slots[:size])
            slots = slots[size:]

    def _run_bucket(self, slots: list[Slot]) -> None:
        for row, slot in enumerate(slots):
            assert slot.pixels is not None
            self._gathered[row] = slot.pixels
        started = self._clock()
        vectors = self.session.run(self._gathered[: len(slots)])
        seconds = self._clock() - started
        self._learn(len(slots), seconds)
        self._observer.batch(self.session.card.reference, len(slots), seconds)
        usable: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(vectors), axis=1)
        for slot, vector, finite in zip(slots, vectors, usable, strict=True):
            slot.infer_s = seconds
            if finite:
                slot.store(vector)
                self._settle(slot, None)
            else:
                self._observer.image_failed(NonFiniteEmbedding.reason)
                self._settle(slot, self._non_finite())

    def _non_finite(self) -> NonFiniteEmbedding:
        return NonFiniteEmbedding(
            f"model {self.session.card.reference} gives a vector with NaN or infinity for this image; "
            "leave the image out, or use another model or precision"
        )
