"""What a collection's rows hold, 16 bytes a row: enough to tell which rows of another one differ."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


class Fingerprints:
    """64-bit hashes of rows' contents, by a 64-bit hash of their ids. Python draws its hash's key anew each time.

    Args:
        batches: Ids, with what each row holds.
    """

    def __init__(self, batches: Iterable[tuple[Sequence[str], Sequence[Hashable]]]) -> None:
        parts = [(_hashes(ids), _hashes(contents)) for ids, contents in batches]
        ids = np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])
        contents = np.concatenate([np.empty(0, np.int64), *(part[1] for part in parts)])
        order = np.argsort(ids)
        self._ids, self._contents = ids[order], contents[order]

    def has(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Whether there is a row of each id."""
        return self._positions(ids) >= 0

    def differ(self, ids: Sequence[str], contents: Sequence[Hashable]) -> NDArray[np.bool_]:
        """Whether there is a row of each id, and holds something else."""
        found = self._positions(ids)
        there = found >= 0
        there[there] = self._contents[found[there]] != _hashes(contents)[there]
        return there

    def _positions(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Where each is among the sorted ones; -1 where it is not."""
        if not len(self._ids):
            return np.full(len(ids), -1, np.int64)
        wanted = _hashes(ids)
        found = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1).astype(np.int64)
        return np.where(self._ids[found] == wanted, found, -1)


def _hashes(values: Sequence[Hashable]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, values), np.int64, len(values))
