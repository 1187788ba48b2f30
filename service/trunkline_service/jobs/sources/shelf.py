"""A few costly things, kept as long as they are asked for, and made once however many ask."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Shelf(Generic[_T]):
    """Keeps the things asked for last; safe to share among threads.

    Args:
        most: How many are kept, whatever their size.
        room: More are kept while all together take no more bytes than this.
        size_of: Bytes of a thing.
    """

    def __init__(self, most: int, room: int = -1, size_of: Callable[[_T], int] = lambda _thing: 0) -> None:
        self._most = most
        self._room = room
        self._size_of = size_of
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Future[_T]] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """The thing of this key, made now if it is not kept; others who ask for it meanwhile wait.

        Raises:
            Exception: What ``make`` raises; nothing is kept then.
        """
        with self._lock:
            future = self._kept.get(key)
            mine = future is None
            if future is None:
                future = self._kept[key] = Future()
            self._kept.move_to_end(key)
            self._clear()
        if mine:
            self._make(key, future, make)
        return future.result()

    def _make(self, key: Hashable, future: Future[_T], make: Callable[[], _T]) -> None:
        try:
            thing = make()
            size = self._size_of(thing)
        except BaseException as exc:  # noqa: BLE001 - given to whoever waits, and to the caller
            with self._lock:
                if self._kept.get(key) is future:
                    del self._kept[key]
            future.set_exception(exc)
            return
        with self._lock:
            if self._kept.get(key) is future:
                self._sizes[key] = size
                self._clear()
        future.set_result(thing)

    def _clear(self) -> None:
        while len(self._kept) > self._most and sum(self._sizes.values()) > self._room:
            key, _thing = self._kept.popitem(last=False)
            self._sizes.pop(key, None)
