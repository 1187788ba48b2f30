"""A ``LaneQueue`` between threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from trunkline_service.batching.queue import LaneQueue, Taken
from trunkline_service.batching.request import Slot
from trunkline_service.errors import Unavailable

Clock = Callable[[], float]


class Mailbox:
    """Slots handed from one stage to the next.

    It is bounded by the engine's admission: nothing enters that was not admitted.
    """

    def __init__(self, clock: Clock) -> None:
        self._queue = LaneQueue()
        self._clock = clock
        self._condition = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._condition:
            return len(self._queue)

    def put(self, slot: Slot) -> None:
        """Adds a slot and wakes a waiting thread.

        Raises:
            Unavailable: It is closed; nobody would take the slot.
        """
        with self._condition:
            if self._closed:
                raise Unavailable("the server is shutting down; send the request to another one")
            self._queue.put(slot, self._clock())
            self._condition.notify()

    def take(self, most: Callable[[int], int]) -> Taken | None:
        """Blocks until something waits, then takes it; None once closed and empty.

        Args:
            most: Says how many to take, given how many wait.
        """
        with self._condition:
            self._condition.wait_for(lambda: len(self._queue) or self._closed)
            if not len(self._queue):
                return None
            return self._queue.take(most(len(self._queue)), self._clock())

    def close(self) -> None:
        """No more slots will come: takers finish what waits and then get None."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def drain(self) -> list[Slot]:
        """Removes everything that waits."""
        with self._condition:
            return self._queue.drain()
