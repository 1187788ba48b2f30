"""What is wished of collections' indexes, as the store last said."""

from __future__ import annotations

import logging
from collections.abc import Callable

from trunkline_service.collections.collection import Collection
from trunkline_service.errors import CollectionNotFound, StorageError
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage.store import IndexStore

_log = logging.getLogger(__name__)
_KNOWN_FOR_S = 10.0


class Wishes:
    """Options by collection; what another process set is known within ten seconds.

    Args:
        store: Keeps them.
        clock: Monotonic seconds.
    """

    def __init__(self, store: IndexStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[IndexOptions, float]] = {}

    def of(self, collection: Collection) -> IndexOptions:
        """What is wished; where that can't be read, what was known, or else the defaults: searches go on.

        Raises:
            CollectionNotFound: There is no such collection.
        """
        known = self._known.get(collection.key)
        if known is not None and self._clock() - known[1] < _KNOWN_FOR_S:
            return known[0]
        try:
            found = self._store.options(collection.name, collection.revision.uid)
        except CollectionNotFound:
            self.forget(collection)
            raise
        except StorageError as exc:
            found = IndexOptions() if known is None else known[0]
            _log.warning("%s; until then %r is taken", exc.message, found)
        self._known[collection.key] = (found, self._clock())
        return found

    def set(self, collection: Collection, options: IndexOptions) -> None:
        """Keeps them in the store."""
        self._store.set_options(collection.name, collection.revision.uid, options)
        self._known[collection.key] = (options, self._clock())

    def forget(self, collection: Collection) -> None:
        """Asks the store the next time."""
        self._known.pop(collection.key, None)
