"""What a collection holds of a source, small enough to be held for every row at once.

The plan of a job is an anti-join of a source against the collection. For 20 million rows, ids and
hashes as Python objects would take 10 GB; here a row takes 26 bytes: 64-bit hashes of its id, of
what tells whether its source changed, and of its content, with two flags. Python's own hash of text
is SipHash with a key that is drawn anew in every process, so nobody can choose ids that collide, and
a chance collision needs id *and* size and time to agree: 2^-128 a pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("id", "status", "size", "mtime", "etag", "content_hash")


class Verdict(IntEnum):
    """What the collection knows of an item."""

    NEW = 0
    CHANGED = 1
    SAME = 2
    FAILED = 3
    """Unchanged, and an error row."""


def stamp(size: int | None, mtime: float | None, etag: str | None) -> int:
    """What tells whether a source may have changed: its size with its tag, or else with its time."""
    return hash((size, etag)) if etag else hash((size, mtime))


class Known:
    """The rows of one version of a collection. Not for several threads.

    Args:
        batches: Lists of ids, statuses, sizes, times, tags and content hashes, in the order of ``COLUMNS``.
    """

    def __init__(self, batches: Iterable[Sequence[Sequence[object]]]) -> None:
        parts: list[tuple[NDArray[np.int64], ...]] = []
        for ids, statuses, sizes, mtimes, etags, hashes in batches:
            failed = np.fromiter((status == "error" for status in statuses), np.int64, len(ids))
            stamps = map(stamp, sizes, mtimes, etags)  # type: ignore[arg-type]
            parts.append((_hashes(ids), np.fromiter(stamps, np.int64, len(ids)), failed, _hashes(hashes)))
        ids_, stamps_, failed_, contents = (
            (np.concatenate(column) for column in zip(*parts, strict=True))
            if (parts)
            else (np.empty(0, np.int64),) * 4
        )
        order = np.argsort(ids_)
        self._ids = ids_[order]
        self._stamps = stamps_[order]
        self._failed = failed_[order].astype(bool)
        self._seen = np.zeros(len(order), bool)
        # An empty hash is that of a file that could not be read: no content at all.
        self._contents = _Hashes(np.sort(contents[(failed_ == 0) & (contents != hash(""))]))

    def __len__(self) -> int:
        return len(self._ids)

    def judge(self, ids: Sequence[str], stamps: Sequence[int]) -> NDArray[np.int8]:
        """A `Verdict` for each item; notes that the source has them."""
        wanted = _hashes(ids)
        found = np.searchsorted(self._ids, wanted)
        verdicts = np.full(len(ids), Verdict.NEW, np.int8)
        if not len(self._ids):
            return verdicts
        found = np.minimum(found, len(self._ids) - 1)
        there = self._ids[found] == wanted
        same = there & (self._stamps[found] == np.fromiter(stamps, np.int64, len(ids)))
        verdicts[there] = Verdict.CHANGED
        verdicts[same] = np.where(self._failed[found[same]], Verdict.FAILED, Verdict.SAME)
        self._seen[found[there]] = True
        return verdicts

    def unseen(self, ids: Sequence[str]) -> list[bool]:
        """Whether each id, of a row that is there, was in no item that was judged."""
        if not len(self._ids):
            return [False] * len(ids)
        wanted = _hashes(ids)
        found = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1)
        there = self._ids[found] == wanted
        unseen: list[bool] = (there & ~self._seen[found]).tolist()
        return unseen

    def has_content(self, content_hash: str) -> bool:
        """Whether a row of this content is there, or was noted; wrong once in 2^64 / rows."""
        return hash(content_hash) in self._contents

    def note_contents(self, content_hashes: Iterable[str]) -> None:
        """Notes the contents of rows that were written since."""
        self._contents.add(_hashes(list(content_hashes)))


class _Hashes:
    """A growing set of 64-bit hashes, 8 bytes each: sorted runs that are merged as they grow alike."""

    def __init__(self, first: NDArray[np.int64]) -> None:
        self._runs = [first]

    def __contains__(self, value: int) -> bool:
        for run in self._runs:
            position = int(np.searchsorted(run, value))
            if position < len(run) and int(run[position]) == value:
                return True
        return False

    def add(self, values: NDArray[np.int64]) -> None:
        self._runs.append(np.sort(values))
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]))


def _hashes(texts: Sequence[object]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, texts), np.int64, len(texts))
