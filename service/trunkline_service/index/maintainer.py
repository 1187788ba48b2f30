"""Keeps the indexes of a server up to date, in threads of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trunkline_service.collections.collection import Collection
from trunkline_service.errors import Cancelled, CollectionNotFound, FailedPrecondition, TrunklineError
from trunkline_service.index.indexes import Indexes

_log = logging.getLogger(__name__)
_EVERY_S = 5.0
# After a failure, a collection is not built for so many rounds, and for twice as many each time.
_PAUSE, _LONGEST = 12, 720
# What is called off ends within a second or two, or with the piece of an upload that is on its way.
_ENDS_S = 60.0


class IndexMaintainer:
    """Looks after every collection that is searched: takes over what others built, builds what is due.

    One build at a time, in this process; searches go on beside it. While one collection is built, a second
    thread looks after the others, which builds nothing.

    Args:
        indexes: Of the workspace.
        wait: Waits for so many seconds, or until it is over; True then. None for a clock's.
        build: Whether it builds; else it takes over what others build.
        at_start: Called once, before the first round, by the thread that builds.
    """

    def __init__(
        self,
        indexes: Indexes,
        wait: Callable[[float], bool] | None = None,
        *,
        build: bool = True,
        at_start: Callable[[], None] = lambda: None,
    ) -> None:
        self._indexes = indexes
        self._build = build
        self._at_start = at_start
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._pauses: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._in_hand: set[str] = set()
        # Odd while a round is under way.
        self._turns = 0
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)
        self._beside = threading.Thread(target=self._run_beside, name="index-beside", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()
        self._beside.start()

    def ask_to_stop(self) -> None:
        """Calls off what is under way, and waits for nothing."""
        self._stopping.set()

    def stop(self) -> None:
        """Ends, and calls off what is under way; what does not hear it for a minute is left to end with the process."""
        self.ask_to_stop()
        for thread in (self._thread, self._beside):
            if thread.ident is not None:
                thread.join(_ENDS_S)
                if thread.is_alive():
                    _log.error("thread %s was asked to end %.0f s ago and has not", thread.name, _ENDS_S)

    def look(self) -> None:
        """One round over the collections."""
        self._turns += 1
        try:
            self._look()
        finally:
            self._turns += 1

    def look_beside(self) -> None:
        """One round over the collections that are in no other thread's hands; nothing is built."""
        for collection in self._indexes.searched():
            if self._stopping.is_set():
                return
            with self._taken(collection) as free:
                if free:
                    self._look_after(collection, build=False)

    def _look(self) -> None:
        collections = self._indexes.searched()
        keys = {collection.key for collection in collections}
        self._pauses = {key: pause for key, pause in self._pauses.items() if key in keys}
        for collection in collections:
            if self._stopping.is_set():
                return
            with self._taken(collection) as free:
                # Else the other thread measures it; the next round comes soon.
                if free:
                    self._in_turn(collection)

    def _in_turn(self, collection: Collection) -> None:
        left, length = self._pauses.get(collection.key, (0, 0))
        if left:
            self._pauses[collection.key] = (left - 1, length)
        build = self._build and not left
        failed = self._look_after(collection, build=build)
        if failed and build:
            length = min(_LONGEST, max(_PAUSE, 2 * length))
            self._pauses[collection.key] = (length, length)
        elif failed is False and build:
            self._pauses.pop(collection.key, None)

    def _look_after(self, collection: Collection, *, build: bool) -> bool | None:
        """Whether it failed; None where it did not come to that."""
        try:
            self._indexes.keep_up(collection, self._stopping.is_set, build)
        except (Cancelled, CollectionNotFound):
            return None
        except TrunklineError as exc:
            if type(exc) is FailedPrecondition:
                # Somebody else is building; what he makes is taken over in a round to come.
                _log.info("index of %s: %s", collection.name, exc.message)
                return None
            _log.warning("index of %s: %s", collection.name, exc.message)
        except Exception:  # noqa: BLE001  a defect here must not end the upkeep of the other collections
            _log.exception("index of %s", collection.name)
        else:
            return False
        return True

    @contextmanager
    def _taken(self, collection: Collection) -> Iterator[bool]:
        """Takes a collection into this thread's hands for the block; False where it is in another's."""
        with self._lock:
            free = collection.key not in self._in_hand
            self._in_hand.add(collection.key)
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    self._in_hand.discard(collection.key)

    def _run(self) -> None:
        try:
            self._at_start()
        except TrunklineError as exc:
            _log.warning("indexes: %s", exc.message)
        while not self._wait(_EVERY_S) and not self._stopping.is_set():
            self.look()

    def _run_beside(self) -> None:
        before = 0
        while not self._stopping.wait(_EVERY_S):
            now = self._turns
            # The same round as the last time: it is at something that takes long.
            if now == before and now % 2:
                self.look_beside()
            before = now
