"""Which rows are held out of the structure, for measuring its recall; pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST, _SHARE = 1000, 100
# Of small collections a larger share: recall measured on few queries says little.
_FEW, _SHARE_OF_FEW = 100, 10


def held_out_rows(rows: int) -> int:
    """How many of ``rows`` are held out."""
    return min(_MOST, max(rows // _SHARE, min(_FEW, rows // _SHARE_OF_FEW)))


class Reservoir:
    """A uniform random sample of a stream whose length nobody knows yet.

    Args:
        size: Rows of it.
        seed: The same stream with the same seed gives the same sample.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._random = np.random.default_rng(seed)
        self._seen = 0

    def admit(self, count: int) -> NDArray[np.int64]:
        """Where the next rows of the stream go, int64 (count,): a slot of the sample, or -1 for none.

        A row that gets a slot takes it from the row that had it.
        """
        places = np.arange(self._seen, self._seen + count)
        # Algorithm R: row i replaces a random one with probability size / (i + 1).
        slots = np.minimum(self._random.random(count) * (places + 1), places).astype(np.int64)
        slots = np.where(places < self._size, places, slots)
        self._seen += count
        return np.where(slots < self._size, slots, -1)

    def chosen(self, wanted: int) -> NDArray[np.int64]:
        """A random choice of at most ``wanted`` of the slots that are filled, in random order."""
        return self._random.permutation(min(self._size, self._seen))[:wanted]
