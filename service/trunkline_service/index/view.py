"""One version of a collection, ready to be searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.index import exact
from trunkline_service.index.card import IndexCard, Recall
from trunkline_service.index.metric import in_single
from trunkline_service.index.probing import search_part
from trunkline_service.index.segment import Part
from trunkline_service.index.workers import Workers

Mask = NDArray[np.bool_]


class Answer(NamedTuple):
    """What a view finds.

    Attributes:
        scores: float32 (Q, k), best first; ``-inf`` where there are fewer. Products that are more than
            float32 holds are the largest that it does, in the right order.
        slots: int64 (Q, k): rows of the view, counted through its parts; -1 where there are fewer.
        exact: Every row that could be among them was compared.
    """

    scores: NDArray[np.float32]
    slots: NDArray[np.int64]
    exact: bool


@dataclass(frozen=True, eq=False)
class View:
    """One version of a collection in parts; immutable, safe to share among threads.

    A row of the version is alive in exactly one part.

    Attributes:
        uid: The collection's.
        version: Its version.
        spec: The identity of its vectors.
        keys: Of the version's fragments, see `Fragments.keys`.
        parts: What an index holds first, then what was written since.
        card: Of the index; None where there is none.
        held_out: float32 (H, dim), prepared: rows that the index does not hold, to measure it with.
        recall: The newest measurement.
    """

    uid: str
    version: int
    spec: CollectionSpec
    keys: tuple[str, ...]
    parts: tuple[Part, ...]
    card: IndexCard | None = None
    held_out: NDArray[np.float32] | None = None
    recall: Recall | None = None

    def __len__(self) -> int:
        return sum(part.living for part in self.parts)

    @property
    def nbytes(self) -> int:
        """Bytes of its segments."""
        return sum(part.segment.nbytes for part in self.parts)

    @property
    def indexed(self) -> Part | None:
        """The part with an approximate structure."""
        if self.parts and self.parts[0].segment.approximate is not None:
            return self.parts[0]
        return None

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        allowed: Sequence[Mask] | None,
        *,
        exact_rows: int | None,
        workers: Workers,
    ) -> Answer:
        """The k best rows of each query.

        Args:
            queries: float32 (Q, dim), prepared.
            k: At least 1.
            allowed: For each part, the rows that a filter lets through, bool; None for all rows.
            exact_rows: See `search_part`.
            workers: Threads.
        """
        found: list[tuple[exact.Scores, NDArray[np.int64]]] = []
        all_exact = True
        for index, part in enumerate(self.parts):
            mask = None if allowed is None else allowed[index]
            scores, positions, was_exact = search_part(
                part, queries, k, self.spec.metric, mask, exact_rows=exact_rows, workers=workers
            )
            found.append((scores, np.where(positions < 0, -1, positions + self._starts[index])))
            all_exact = all_exact and was_exact
        if not found:
            nothing = np.full((len(queries), k), -np.inf, np.float32)
            return Answer(nothing, np.full((len(queries), k), -1, np.int64), True)
        scores, slots = exact.merged(found, k)
        return Answer(in_single(scores), slots, all_exact)

    def slots_of(self, row_ids: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Where living rows are, int64; -1 for one that is not alive."""
        slots = np.full(len(row_ids), -1, np.int64)
        for part, start in zip(self.parts, self._starts, strict=True):
            positions = part.segment.positions_of(row_ids)
            here = positions >= 0
            here[here] = part.alive[positions[here]]
            slots[here] = positions[here] + start
        return slots

    def masks_of(self, row_ids: NDArray[np.uint64]) -> tuple[Mask, ...]:
        """For each part, which of its rows are alive and among these."""
        slots = self.slots_of(row_ids)
        mask = np.zeros(self.slots, bool)
        mask[slots[slots >= 0]] = True
        return self.split(mask)

    @property
    def slots(self) -> int:
        """Rows of all parts, alive or not."""
        return sum(len(part.segment) for part in self.parts)

    def split(self, mask: Mask) -> tuple[Mask, ...]:
        """A mask over all slots as one for each part."""
        return tuple(
            mask[start : start + len(part.segment)]
            for part, start in zip(self.parts, self._starts, strict=True)
        )

    def texts(self, slots: NDArray[np.int64], column: str) -> list[Any]:
        """``ids``, ``labels`` or ``sources`` of rows (n,)."""
        return self._taken(slots, lambda part, at: getattr(part.segment, column).take(at).to_pylist())

    def row_ids(self, slots: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Stable row ids of rows (n,), uint64."""
        return np.array(self._taken(slots, lambda part, at: part.segment.row_ids[at]), np.uint64)

    def vectors(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Prepared vectors of rows (n,), float32 (n, dim)."""
        rows = self._taken(slots, lambda part, at: part.segment.vectors[at])
        return np.array(rows, np.float32).reshape(len(slots), self.spec.dim)

    def _taken(self, slots: NDArray[np.int64], take: Any) -> list[Any]:
        where = np.searchsorted(np.array(self._starts), slots, side="right") - 1
        if not len(slots):
            return []
        first = int(where[0])
        if (where == first).all():
            return list(take(self.parts[first], slots - self._starts[first]))
        taken: list[Any] = []
        for index in np.unique(where).tolist():
            at = np.flatnonzero(where == index)
            taken.extend(take(self.parts[index], slots[at] - self._starts[index]))
        # They came part by part.
        return list(map(taken.__getitem__, np.argsort(np.argsort(where, kind="stable")).tolist()))

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for part in self.parts[:-1]:
            starts.append(starts[-1] + len(part.segment))
        return starts[: len(self.parts)]
