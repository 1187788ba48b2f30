"""What a collection holds of a source, small enough to be held for every row at once.

The plan of a job is an anti-join of a source against the collection. For 20 million rows, ids and
hashes as Python objects would take 10 GB; here a row takes 42 bytes: 64-bit hashes of its id, of
what tells whether its source changed, of its source, and of its content (twice: by id, and sorted),
with two flags.
Python's own hash of text is SipHash with a key that is drawn anew in every process, so nobody can
choose ids that collide, and a chance collision needs id *and* size and time to agree: 2^-128 a pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.rows import Row

COLUMNS = ("id", "status", "size", "mtime", "etag", "content_hash", "source")


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
    """The rows of one version of a collection. One thread judges; others may ask for contents meanwhile.

    Args:
        batches: Lists of the values of ``COLUMNS``, in their order.
    """

    def __init__(self, batches: Iterable[Sequence[Sequence[object]]]) -> None:
        parts: list[tuple[NDArray[np.int64], ...]] = []
        for ids, statuses, sizes, mtimes, etags, hashes, sources in batches:
            failed = np.fromiter((status == "error" for status in statuses), np.int64, len(ids))
            stamps = map(stamp, sizes, mtimes, etags)  # type: ignore[arg-type]
            stamped = np.fromiter(stamps, np.int64, len(ids))
            parts.append((_hashes(ids), stamped, failed, _hashes(hashes), _hashes(sources)))
        nothing = (np.empty(0, np.int64),) * 5
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else nothing
        order = np.argsort(columns[0])
        self._ids, self._stamps, failed_, self._content_of, self._source_of = (
            column[order] for column in columns
        )
        self._failed = failed_.astype(bool)
        self._seen = np.zeros(len(order), bool)
        # An empty hash is that of a file that could not be read: no content at all.
        usable = ~self._failed & (self._content_of != hash(""))
        self._contents = _Hashes(np.sort(self._content_of[usable]))

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Known:
        """Of these rows alone."""
        columns = [[getattr(row, name) for name in COLUMNS] for row in rows]
        return cls([list(zip(*columns, strict=True))] if columns else [])

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

    def has_embedding(self, row_id: str) -> bool:
        """Whether there is a row of this id with an embedding. Threads may ask."""
        position = self._position(row_id)
        return position is not None and not self._failed[position]

    def same_content(self, row_id: str, content_hash: str) -> bool:
        """Whether the row of this id has an embedding, of this very content. Threads may ask."""
        position = self._position(row_id)
        if position is None or self._failed[position]:
            return False
        return int(self._content_of[position]) == hash(content_hash)

    def same_source(self, row_id: str, source: str) -> bool:
        """Whether the row of this id was recorded with this very source. Threads may ask."""
        position = self._position(row_id)
        return position is not None and int(self._source_of[position]) == hash(source)

    def _position(self, row_id: str) -> int | None:
        wanted = hash(row_id)
        position = int(np.searchsorted(self._ids, wanted))
        found = position < len(self._ids) and int(self._ids[position]) == wanted
        return position if found else None

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
        # Replaced as a whole, since other threads look into it.
        runs = [*self._runs, np.sort(values)]
        while len(runs) > 1 and len(runs[-2]) <= 2 * len(runs[-1]):
            last = runs.pop()
            runs[-1] = np.sort(np.concatenate([runs[-1], last]))
        self._runs = runs


def _hashes(texts: Sequence[object]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, texts), np.int64, len(texts))
