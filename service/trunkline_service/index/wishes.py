"""What is wished of collections' indexes, as the store last said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from trunkline_service.collections.collection import Collection
from trunkline_service.errors import StorageError
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage.store import IndexStore

_log = logging.getLogger(__name__)
_KNOWN_FOR_S = 10.0


class _Wish(NamedTuple):
    """What the store said.

    Attributes:
        options: What is wished.
        uid: Of the collection; None where the store can't be read.
        at: When, by the clock.
    """

    options: IndexOptions
    uid: str | None
    at: float


class Wishes:
    """Options by collection; what another process set is known within ten seconds.

    Args:
        store: Keeps them.
        clock: Monotonic seconds.
    """

    def __init__(self, store: IndexStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, _Wish] = {}

    def of(self, collection: Collection, uid: str | None = None) -> IndexOptions:
        """What is wished; where that can't be read, what was known, or else the defaults: searches go on.

        Args:
            collection: Whose.
            uid: Of the collection, as far as the caller knows; what is known of another one of the name is asked
                anew. None where the caller did not look.

        Raises:
            CollectionNotFound: There is no such collection.
        """
        known = self._known.get(collection.key)
        if known is not None and uid is not None and known.uid != uid:
            known = None
        if known is not None and self._clock() - known.at < _KNOWN_FOR_S:
            return known.options
        try:
            uid = collection.revision.uid
            found = self._store.options(collection.name, uid)
        except StorageError as exc:
            found = IndexOptions() if known is None else known.options
            _log.warning("%s; until then %r is taken", exc.message, found)
        self._known[collection.key] = _Wish(found, uid, self._clock())
        return found

    def set(self, collection: Collection, options: IndexOptions) -> None:
        """Keeps them in the store."""
        uid = collection.revision.uid
        self._store.set_options(collection.name, uid, options)
        self._known[collection.key] = _Wish(options, uid, self._clock())

    def uid_of(self, collection: Collection) -> str | None:
        """Of the collection that had the name when the store was last asked; None where that is not known."""
        known = self._known.get(collection.key)
        return None if known is None else known.uid

    def forget(self, collection: Collection) -> None:
        """Asks the store the next time."""
        self._known.pop(collection.key, None)
