"""Keeps the indexes of a server up to date, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from trunkline_service.collections.collection import Collection
from trunkline_service.errors import Cancelled, CollectionNotFound, FailedPrecondition, TrunklineError
from trunkline_service.index.indexes import Indexes

_log = logging.getLogger(__name__)
_EVERY_S = 5.0
# After a failure, a collection is not built for so many rounds, and for twice as many each time.
_PAUSE, _LONGEST = 12, 720


class IndexMaintainer:
    """Looks after every collection that is searched: takes over what others built, builds what is due.

    One build at a time, in this process; searches go on beside it.

    Args:
        indexes: Of the workspace.
        wait: Waits for so many seconds, or until it is over; True then. None for a clock's.
        build: Whether it builds; else it takes over what others build.
    """

    def __init__(
        self, indexes: Indexes, wait: Callable[[float], bool] | None = None, *, build: bool = True
    ) -> None:
        self._indexes = indexes
        self._build = build
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._pauses: dict[str, tuple[int, int]] = {}
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Calls off what is under way, and waits for nothing."""
        self._stopping.set()

    def stop(self) -> None:
        """Ends, and calls off what is under way."""
        self.ask_to_stop()
        if self._thread.ident is not None:
            self._thread.join()

    def look(self) -> None:
        """One round over the collections."""
        collections = self._indexes.searched()
        keys = {collection.key for collection in collections}
        self._pauses = {key: pause for key, pause in self._pauses.items() if key in keys}
        for collection in collections:
            if self._stopping.is_set():
                return
            left, length = self._pauses.get(collection.key, (0, 0))
            if left:
                self._pauses[collection.key] = (left - 1, length)
            self._look_after(collection, length, build=self._build and not left)

    def _look_after(self, collection: Collection, length: int, *, build: bool) -> None:
        try:
            self._indexes.keep_up(collection, self._stopping.is_set, build)
        except (Cancelled, CollectionNotFound):
            return
        except TrunklineError as exc:
            if type(exc) is FailedPrecondition:
                # Somebody else is building; what he makes is taken over in a round to come.
                _log.info("index of %s: %s", collection.name, exc.message)
                return
            _log.warning("index of %s: %s", collection.name, exc.message)
        except Exception:  # noqa: BLE001  a defect here must not end the upkeep of the other collections
            _log.exception("index of %s", collection.name)
        else:
            if build:
                self._pauses.pop(collection.key, None)
            return
        if build:
            length = min(_LONGEST, max(_PAUSE, 2 * length))
            self._pauses[collection.key] = (length, length)

    def _run(self) -> None:
        while not self._wait(_EVERY_S) and not self._stopping.is_set():
            self.look()
