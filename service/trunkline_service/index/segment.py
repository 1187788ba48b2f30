"""Rows that are searched together, and which of them are alive in a version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.fragments import FragmentRows
from trunkline_service.index.card import Level
from trunkline_service.index.exact import half_squares_of
from trunkline_service.index.kinds.approximate import Approximate


@dataclass(frozen=True, eq=False)
class Segment:
    """N rows of a collection, each as one version wrote it; immutable.

    Attributes:
        row_ids: uint64 (N,), stable.
        written: uint64 (N,), the version that wrote each; with the row id it says which content it has.
        vectors: float32 (N, dim), prepared.
        ids: Arrow large-string array.
        labels: The same with nulls, or of lists of strings.
        sources: Arrow large-string array.
        approximate: Searches the vectors; None where all are compared.
        levels: Its efforts, see `IndexCard.levels`.
    """

    row_ids: NDArray[np.uint64]
    written: NDArray[np.uint64]
    vectors: NDArray[np.float32]
    ids: Any
    labels: Any
    sources: Any
    approximate: Approximate | None = None
    levels: tuple[Level, ...] = ()

    def __len__(self) -> int:
        return len(self.row_ids)

    def level_of(self, k: int) -> Level | None:
        """For searches of k neighbours; None where all rows are to be compared.

        One more than was measured for is no other level: the row that asks is left out of its own neighbours.
        """
        return next((level for level in self.levels if k <= level.recall.k + 1), None)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes: of vectors, texts and structure.

        Not of an index's vectors and structure in mapped files, whose memory the system takes back.
        """
        texts = sum(column.nbytes for column in (self.ids, self.labels, self.sources))
        if _is_mapped(self.vectors):
            return int(texts)
        structure = 0 if self.approximate is None else self.approximate.nbytes
        return int(self.vectors.nbytes + texts + structure)

    def positions_of(self, row_ids: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Where rows are, int64; -1 for one that is not here."""
        order, known = self._by_row_id
        if not len(known):
            return np.full(len(row_ids), -1, np.int64)
        found = np.minimum(np.searchsorted(known, row_ids), len(known) - 1)
        positions = found if order is None else order[found]
        return np.where(known[found] == row_ids, positions, -1).astype(np.int64, copy=False)

    def renewed(self, at: NDArray[np.int64], rows: FragmentRows) -> Segment:
        """The same vectors, and what a later version wrote beside those of some rows.

        Args:
            at: int64 (m,), where the rows are.
            rows: m rows; their vectors are not looked at.
        """
        import pyarrow as pa

        written, taken = self.written.copy(), np.arange(len(self))
        written[at] = rows.stamps.written
        taken[at] = len(self) + np.arange(len(at))
        texts = {
            name: pa.concat_arrays([getattr(self, name), getattr(rows, name)]).take(pa.array(taken))
            for name in ("ids", "labels", "sources")
        }
        return replace(self, written=written, **texts)

    @cached_property
    def half_squares(self) -> NDArray[np.float32]:
        """See `exact.half_squares_of`."""
        return half_squares_of(self.vectors)

    @cached_property
    def _by_row_id(self) -> tuple[NDArray[np.int64] | None, NDArray[np.uint64]]:
        if len(self) < 2 or bool((self.row_ids[1:] > self.row_ids[:-1]).all()):
            return None, self.row_ids
        order = np.argsort(self.row_ids)
        return order, self.row_ids[order]


def _is_mapped(array: NDArray[np.float32]) -> bool:
    base: Any = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap)


@dataclass(frozen=True, eq=False)
class Part:
    """A segment as one version of the collection sees it.

    Attributes:
        segment: The rows.
        alive: bool (N,): the version has this row with this content.
        fragment: int32 (N,): where a living row lies, a position in `View.keys`.
        living: How many are alive.
    """

    segment: Segment
    alive: NDArray[np.bool_]
    fragment: NDArray[np.int32]
    living: int

    def allowed(self, also: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """The living rows that are allowed as well; None where that is all of them."""
        if self.living == len(self.segment):
            return also
        return self.alive if also is None else self.alive & also

    def kept(self) -> Part:
        """The living rows alone, in a segment without an approximate structure."""
        if self.living == len(self.segment) and self.segment.approximate is None:
            return self
        at = np.flatnonzero(self.alive)
        old = self.segment
        segment = Segment(
            old.row_ids[at],
            old.written[at],
            old.vectors[at],
            *(column.take(at) for column in (old.ids, old.labels, old.sources)),
        )
        return whole(segment, self.fragment[at])


def whole(segment: Segment, fragment: NDArray[np.int32]) -> Part:
    """A segment all of whose rows are alive."""
    return Part(segment, np.ones(len(segment), bool), fragment, len(segment))


def concatenated(parts: Sequence[Part]) -> Part:
    """The living rows of several parts in one, without an approximate structure."""
    import pyarrow as pa

    kept = [part.kept() for part in parts]
    segments = [part.segment for part in kept]
    joined = Segment(
        np.concatenate([segment.row_ids for segment in segments]),
        np.concatenate([segment.written for segment in segments]),
        np.concatenate([segment.vectors for segment in segments]),
        *(
            pa.concat_arrays([getattr(segment, name) for segment in segments])
            for name in ("ids", "labels", "sources")
        ),
    )
    return whole(joined, np.concatenate([part.fragment for part in kept]))


def at_fragments(part: Part, alive: NDArray[np.bool_], fragment: NDArray[np.int32]) -> Part:
    """The same segment as another version sees it."""
    return replace(part, alive=alive, fragment=fragment, living=int(np.count_nonzero(alive)))
