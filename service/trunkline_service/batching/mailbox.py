"""A ``LaneQueue`` between threads, with a bound on those at work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from trunkline_service.batching.queue import LaneQueue, Taken
from trunkline_service.batching.request import Slot
from trunkline_service.errors import Unavailable

Clock = Callable[[], float]


class Mailbox:
    """Slots handed from one stage to the next.

    It is bounded by the engine's admission: nothing enters that was not admitted. Whoever works on slots is
    counted: a thread of the stage, which takes what waits, or a thread that brings its own slot while nothing
    waits and hands it to nobody.

    Args:
        clock: Monotonic seconds.
        places: How many may be at work at once.
    """

    def __init__(self, clock: Clock, places: int) -> None:
        self._queue = LaneQueue()
        self._clock = clock
        self._places = places
        self._at_work = 0
        # Waited on by threads of the stage; `_idle` by whoever closes it.
        lock = threading.Lock()
        self._condition = threading.Condition(lock)
        self._idle = threading.Condition(lock)
        self._closed = False

    def __len__(self) -> int:
        with self._condition:
            return len(self._queue)

    def put(self, slots: Sequence[Slot]) -> None:
        """Adds slots and wakes waiting threads.

        Raises:
            Unavailable: It is closed; nobody would take them.
        """
        with self._condition:
            self._refuse_if_closed()
            now = self._clock()
            for slot in slots:
                self._queue.put(slot, now)
            if free := min(len(slots), self._places - self._at_work):
                self._condition.notify(free)

    def enter(self) -> bool:
        """Counts the calling thread in, if nothing waits and a place is free; then it must `leave`.

        Raises:
            Unavailable: It is closed.
        """
        with self._condition:
            self._refuse_if_closed()
            if self._at_work >= self._places or len(self._queue):
                return False
            self._at_work += 1
            return True

    def take(self, most: Callable[[int], int], leaving: bool = False) -> Taken | None:
        """Blocks until something waits and a place is free, takes it and counts the thread in.

        Args:
            most: Says how many to take, given how many wait.
            leaving: Whether the thread is counted in for what it took before: it is counted out first. It
                takes what waits itself then, where `leave` would have woken another for it.

        Returns:
            None once it is closed and empty; the thread is not counted in then.
        """
        with self._condition:
            if leaving:
                self._at_work -= 1
                if self._closed:
                    self._tell_closed()
            while True:
                waiting = len(self._queue)
                if waiting and self._at_work < self._places:
                    break
                if not waiting and self._closed:
                    return None
                self._condition.wait()
            self._at_work += 1
            return self._queue.take(most(waiting), self._clock())

    def leave(self) -> None:
        """Counts the calling thread out."""
        with self._condition:
            self._at_work -= 1
            if self._closed:
                self._tell_closed()
            elif len(self._queue):
                self._condition.notify()

    def close(self) -> None:
        """No more slots will come: takers finish what waits and then get None."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def wait_idle(self, timeout_s: float) -> bool:
        """Blocks until nothing waits and nobody is at work; False if time ran out."""
        with self._condition:
            return self._idle.wait_for(lambda: not self._at_work and not len(self._queue), timeout_s)

    def drain(self) -> list[Slot]:
        """Removes everything that waits."""
        with self._condition:
            return self._queue.drain()

    def _tell_closed(self) -> None:
        """Threads of the stage and whoever closes it look again."""
        self._condition.notify_all()
        self._idle.notify_all()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise Unavailable("the server is shutting down; send the request to another one")
