"""Which ids a listing has given, small enough to be held for every one of them."""

from __future__ import annotations

from array import array

_FIRST = 1024
_SLOT_BYTES = 8


class SeenIds:
    """A growing set of ids, of which it holds 64-bit hashes.

    An id takes 12 to 24 bytes, and half as much more while the set grows: 400 MB for 20 million.

    The hashes are Python's own, with a key that is drawn anew in every process, so nobody can choose
    ids that collide. That two of 20 million ids collide by chance has a probability of 1e-5.
    """

    def __init__(self) -> None:
        # Open addressing; 0 is a free slot.
        self._slots = array("q", bytes(_FIRST * _SLOT_BYTES))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, item_id: str) -> bool:
        """Notes an id; gives whether it is new."""
        if 3 * self._count >= 2 * len(self._slots):
            self._grow()
        if not _put(self._slots, hash(item_id) or 1):
            return False
        self._count += 1
        return True

    def _grow(self) -> None:
        slots = array("q", bytes(2 * len(self._slots) * _SLOT_BYTES))
        for value in self._slots:
            if value:
                _put(slots, value)
        self._slots = slots


def _put(slots: array[int], value: int) -> bool:
    """Puts a value where it belongs; False where it is there."""
    last = len(slots) - 1
    slot = value & last
    while there := slots[slot]:
        if there == value:
            return False
        slot = (slot + 1) & last
    slots[slot] = value
    return True
