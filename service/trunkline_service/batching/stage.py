"""A stage: threads that take slots from a mailbox and work on them, and the proof that they live."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from trunkline_service.batching.mailbox import Clock, Mailbox
from trunkline_service.batching.observer import Observer
from trunkline_service.batching.queue import Taken
from trunkline_service.batching.request import Slot
from trunkline_service.errors import Cancelled, InternalError, TrunklineError, Unavailable

_log = logging.getLogger(__name__)
# One failure can be an accident; a device that is gone fails every time.
_TOO_MANY_FAILURES = 3


class Stage:
    """Worker threads over one mailbox.

    A slot that comes while nothing waits and a place is free is worked on by the thread that brings it: the
    stage then does what its own thread would have done, without waking one.

    Args:
        name: For thread names and logs.
        threads: How many, and how many threads may be at work at once.
        most: How many slots to take at once, given how many wait.
        work: Handles the slots taken. What it raises fails these slots alone; the thread goes on.
        clock: Monotonic seconds.
        observer: Told of dropped slots.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        most: Callable[[int], int],
        work: Callable[[list[Slot]], None],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.mailbox = Mailbox(clock, threads)
        self._name = name
        self._most = most
        self._work = work
        self._clock = clock
        self._observer = observer
        self._busy_since: dict[int, float] = {}
        self._failures_in_a_row = 0
        self._threads = [
            threading.Thread(target=self._loop, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, slots: Sequence[Slot]) -> None:
        """Leaves slots to the threads of the stage.

        Raises:
            Unavailable: It is closed.
        """
        self.mailbox.put(slots)

    def handle(self, slot: Slot) -> None:
        """Works on a slot in the calling thread if a place is free; leaves it to the stage's threads otherwise.

        Raises:
            Unavailable: It is closed.
        """
        if not self.mailbox.enter():
            self.mailbox.put((slot,))
            return
        try:
            verdict = slot.request.verdict(self._clock())
            self._handle(Taken([slot], []) if verdict is None else Taken([], [(slot, verdict)]))
        finally:
            self.mailbox.leave()

    def trouble(self, stall_s: float) -> str | None:
        """What is wrong with this stage: a thread that died or hangs, or work that fails every time."""
        dead = [thread.name for thread in self._threads if not thread.is_alive()]
        if dead:
            return f"{', '.join(dead)} died"
        if self._failures_in_a_row >= _TOO_MANY_FAILURES:
            return f"{self._name} failed {self._failures_in_a_row} times in a row"
        now = self._clock()
        for since in list(self._busy_since.values()):
            if now - since > stall_s:
                return f"{self._name} has been busy with one batch for {now - since:.0f} s"
        return None

    def close(self, deadline: float) -> int:
        """Lets what waits be finished, until ``deadline`` on the stage's clock.

        Returns:
            How many slots had to be given up; their callers are told.
        """
        self.mailbox.close()
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._clock()))
        self.mailbox.wait_idle(max(0.0, deadline - self._clock()))
        abandoned = self.mailbox.drain()
        for slot in abandoned:
            slot.settle(Unavailable("the server shut down before this image's turn came"))
        return len(abandoned)

    def _loop(self) -> None:
        taken = self.mailbox.take(self._most)
        while taken is not None:
            try:
                self._handle(taken)
            except BaseException:
                # The thread dies of it, and its place must not go with it.
                self.mailbox.leave()
                raise
            taken = self.mailbox.take(self._most, leaving=True)

    def _handle(self, taken: Taken) -> None:
        for slot, verdict in taken.dropped:
            self._observer.dropped(verdict.reason)
            slot.settle(verdict)
        if not taken.slots:
            return
        me = threading.get_ident()
        self._busy_since[me] = self._clock()
        try:
            self._work(taken.slots)
            self._failures_in_a_row = 0
        except Exception:  # noqa: BLE001 - a stage must outlive any defect in its work; it is logged
            _log.exception("%s failed on %d images", self._name, len(taken.slots))
            self._failures_in_a_row += 1
            _settle(taken.slots, InternalError())
        except BaseException:
            # Ctrl-C in a thread that brought its own slot: others may follow it, and its place is counted.
            _settle(taken.slots, Cancelled("the caller was interrupted"))
            raise
        finally:
            del self._busy_since[me]


def _settle(slots: Sequence[Slot], error: TrunklineError) -> None:
    for slot in slots:
        if not slot.settled:
            slot.settle(error)
