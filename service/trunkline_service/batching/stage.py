"""A stage: threads that take slots from a mailbox and work on them, and the proof that they live."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from trunkline_service.batching.mailbox import Clock, Mailbox
from trunkline_service.batching.observer import Observer
from trunkline_service.batching.queue import Taken
from trunkline_service.batching.request import Slot
from trunkline_service.errors import InternalError, TrunklineError

_log = logging.getLogger(__name__)


class Stage:
    """Worker threads over one mailbox.

    Args:
        name: For thread names and logs.
        threads: How many.
        most: How many slots to take at once, given how many wait.
        work: Handles the slots taken. What it raises fails these slots alone; the thread goes on.
        settle: Called for every slot this stage finishes without ``work`` having done so.
        clock: Monotonic seconds.
        observer: Told of dropped slots.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        most: Callable[[int], int],
        work: Callable[[list[Slot]], None],
        settle: Callable[[Slot, TrunklineError | None], None],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.mailbox = Mailbox(clock)
        self._name = name
        self._most = most
        self._work = work
        self._settle = settle
        self._clock = clock
        self._observer = observer
        self._busy_since: dict[int, float] = {}
        self._threads = [
            threading.Thread(target=self._loop, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def trouble(self, stall_s: float) -> str | None:
        """What is wrong with this stage: a thread that died, or one that has been busy for too long."""
        dead = [thread.name for thread in self._threads if not thread.is_alive()]
        if dead:
            return f"{', '.join(dead)} died"
        now = self._clock()
        for since in list(self._busy_since.values()):
            if now - since > stall_s:
                return f"{self._name} has been busy with one batch for {now - since:.0f} s"
        return None

    def close(self, timeout: float | None) -> None:
        """Lets the threads finish what waits, and waits for them."""
        self.mailbox.close()
        for thread in self._threads:
            thread.join(timeout)

    def _loop(self) -> None:
        me = threading.get_ident()
        while (taken := self.mailbox.take(self._most)) is not None:
            self._drop(taken)
            if not taken.slots:
                continue
            self._busy_since[me] = self._clock()
            try:
                self._work(taken.slots)
            except Exception:  # noqa: BLE001 - a stage must outlive any defect in its work; it is logged
                _log.exception("%s failed on %d images", self._name, len(taken.slots))
                self._fail(taken.slots)
            finally:
                del self._busy_since[me]

    def _drop(self, taken: Taken) -> None:
        for slot, verdict in taken.dropped:
            self._observer.dropped(verdict.reason)
            self._settle(slot, verdict)

    def _fail(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            if not slot.settled:
                self._settle(slot, InternalError())
