"""The batcher of one model: takes what has gathered as soon as the device is free."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from trunkline_service.batching.buckets import batch_size
from trunkline_service.batching.mailbox import Clock
from trunkline_service.batching.observer import Observer
from trunkline_service.batching.request import Slot
from trunkline_service.batching.stage import Stage
from trunkline_service.errors import TrunklineError
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
        for row, slot in enumerate(slots):
            assert slot.pixels is not None
            self._gathered[row] = slot.pixels
        started = self._clock()
        vectors = self.session.run(self._gathered[: len(slots)])
        seconds = self._clock() - started
        self._learn(len(slots), seconds)
        self._observer.batch(self.session.card.reference, len(slots), seconds)
        for slot, vector in zip(slots, vectors, strict=True):
            slot.infer_s = seconds
            slot.store(vector)
            self._settle(slot, None)
