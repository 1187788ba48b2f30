"""The heads that are loaded: each version once, the longest unused one going first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from trunkline_service.heads.serving.loaded import LoadedHead

Key = tuple[str, int]
# So many heads can be opened at once; others that are loaded are served meanwhile.
_DOORS = 16


class LoadedHeads:
    """Keeps heads loaded; safe to use from many threads.

    Args:
        most: Heads kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heads: OrderedDict[Key, tuple[Hashable, LoadedHead]] = OrderedDict()
        self._lock = threading.Lock()
        self._doors = [threading.Lock() for _ in range(_DOORS)]

    def get(self, key: Key, stamp: Hashable, load: Callable[[], LoadedHead]) -> LoadedHead:
        """The head of a version, loaded if it is not there, or if another stands in its place.

        Args:
            key: Name and version.
            stamp: What tells this version from another one of its name and number.
            load: Loads it; called by one thread for all that wait for the same head.
        """
        found = self._find(key, stamp)
        if found is not None:
            return found
        with self._doors[hash(key) % _DOORS]:
            found = self._find(key, stamp)
            return found if found is not None else self._keep(key, stamp, load())

    def _find(self, key: Key, stamp: Hashable) -> LoadedHead | None:
        with self._lock:
            known = self._heads.get(key)
            # A version never changes, but a folder that someone removed can come again.
            if known is None or known[0] != stamp:
                return None
            self._heads.move_to_end(key)
            return known[1]

    def _keep(self, key: Key, stamp: Hashable, head: LoadedHead) -> LoadedHead:
        with self._lock:
            self._heads[key] = (stamp, head)
            self._heads.move_to_end(key)
            while len(self._heads) > self._most:
                self._heads.popitem(last=False)
        return head
