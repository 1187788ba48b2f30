"""What was read not long ago, so that a call in a hurry need not read it again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trunkline_service.errors import StorageError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_log = logging.getLogger(__name__)


@dataclass
class _Entry(Generic[V]):
    value: V
    read_at: float
    reading: threading.Lock = field(default_factory=threading.Lock)


class Recent(Generic[K, V]):
    """Values by key, read anew when they are older than ``refresh_s``; safe to use from many threads.

    While one thread reads a known value anew, the others go on with the one before. So does everybody
    while the place can't be read: what was served keeps being served, and the log says why.

    Args:
        read: Reads a value; what it raises of a key that is not known passes through.
        refresh_s: Seconds.
        clock: Monotonic seconds.
    """

    def __init__(self, read: Callable[[K], V], refresh_s: float, clock: Callable[[], float]) -> None:
        self._read = read
        self._refresh_s = refresh_s
        self._clock = clock
        self._entries: dict[K, _Entry[V]] = {}

    def get(self, key: K) -> V:
        """The value, at most ``refresh_s`` and one reading old."""
        entry = self._entries.get(key)
        if entry is None:
            return self.put(key, self._read(key))
        if self._clock() - entry.read_at >= self._refresh_s and entry.reading.acquire(blocking=False):
            try:
                self._refresh(key, entry)
            finally:
                entry.reading.release()
        return entry.value

    def put(self, key: K, value: V) -> V:
        """Takes note of a value that is known from elsewhere; gives it."""
        self._entries[key] = _Entry(value, self._clock())
        return value

    def forget(self, key: K) -> None:
        """The next `get` reads."""
        self._entries.pop(key, None)

    def _refresh(self, key: K, entry: _Entry[V]) -> None:
        started = self._clock()
        try:
            entry.value = self._read(key)
        except StorageError as exc:
            _log.warning("%s; going on with what was read %.0f s ago", exc, started - entry.read_at)
        except BaseException:
            # It is not there any more, which is news, not trouble.
            self.forget(key)
            raise
        entry.read_at = started
