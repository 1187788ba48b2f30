"""From candidates to hits: more are asked for until there are enough, or none are left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.filters import literal
from trunkline_service.index import shaping
from trunkline_service.index.calling_off import check_wanted, never
from trunkline_service.index.lance.candidates import Candidates, joined
from trunkline_service.index.query import SearchOptions


@dataclass(frozen=True, eq=False)
class Found:
    """The hits of one query, best first.

    Attributes:
        scores: n.
        groups: n values as text, or None.
        folded: For each the ids of rows that were folded into it.
        rows: An Arrow table of n rows; None where n is 0.
        complete: No row that was left out could be a hit, or be folded into one; see `shaping.MOST_COMPARED`.
    """

    scores: list[float]
    groups: list[str | None]
    folded: list[tuple[str, ...]]
    rows: Any
    complete: bool = True


class _Shaped(NamedTuple):
    """What is left of candidates: those that may be hits, their groups, which are; whether a radius cut them."""

    kept: Candidates
    groups: list[Hashable] | None
    chosen: shaping.Chosen
    cut: bool


@dataclass(frozen=True, eq=False)
class Finder:
    """Looks for the hits of queries.

    Attributes:
        options: How many, and which.
        metric: Of the vectors.
        best: The best rows of queries, with a condition for them: see `Source.best`.
        rows: That there are at most.
    """

    options: SearchOptions
    metric: str
    best: Callable[[NDArray[np.float32], int, str | None], list[Candidates]]
    rows: int

    def find(
        self,
        queries: NDArray[np.float32],
        excluded: Sequence[str | None],
        *,
        cancelled: Callable[[], bool] = never,
    ) -> list[Found]:
        """The hits of each query.

        Args:
            queries: float32 (Q, dim), prepared.
            excluded: For each query the id of a row that is no hit of it, or None.
            cancelled: Asked before every search, and now and then between them.

        Raises:
            Cancelled: ``cancelled`` said so.
        """
        if not len(queries) or not self.rows:
            return [Found([], [], [], None) for _ in excluded]
        check_wanted(cancelled)
        k = shaping.first_k(self.options, self.rows, excludes=any(excluded))
        first = self.best(queries, k, None)
        return [
            self._one(queries[at : at + 1], part, k, excluded[at], cancelled) for at, part in enumerate(first)
        ]

    def _one(
        self,
        query: NDArray[np.float32],
        known: Candidates,
        k: int,
        excluded: str | None,
        cancelled: Callable[[], bool],
    ) -> Found:
        most = shaping.most_k(self.options, self.rows)
        all_there = len(known) < k or k >= self.rows
        while True:
            check_wanted(cancelled)
            shaped = self._shaped(known, excluded, cancelled)
            also = self._others(shaped)
            if all_there or shaped.cut or shaped.chosen.enough or (shaped.groups is not None and also == ""):
                return _found(shaped, complete=True)
            if k >= most or (self.options.collapse is not None and len(known) >= most):
                return _found(shaped, complete=False)
            before = len(known)
            if not also:
                k = min(most, k * shaping.MORE)
            (more,) = self.best(query, k, also or None)
            all_there = len(more) < k or k >= self.rows
            known = joined([known, more])
            if also and len(known) == before:
                # Only rows that were folded came again.
                k = min(most, k * shaping.MORE)

    def _shaped(self, known: Candidates, excluded: str | None, cancelled: Callable[[], bool]) -> _Shaped:
        count = shaping.within(known.scores, np.arange(len(known)), self.options.min_score, self.metric)
        at = np.arange(count)
        if excluded is not None:
            ids = known.rows.column("id").to_pylist()[:count]
            at = np.array([place for place, row_id in enumerate(ids) if row_id != excluded], np.int64)
        kept = Candidates(known.scores[at], known.row_ids[at], known.vectors[at], known.rows.take(at))
        groups, similar = None, None
        if self.options.group_by is not None:
            groups = kept.rows.column(self.options.group_by).to_pylist()
        if self.options.collapse is not None:
            similar = shaping.Similarity(kept.vectors, self.metric, self.options.collapse)
        chosen = shaping.choose(len(kept), self.options.k, self.options.per_group, groups, similar, cancelled)
        return _Shaped(kept, groups, chosen, cut=count < len(known))

    def _others(self, shaped: _Shaped) -> str | None:
        """A condition for the rows that could still add to the groups.

        Full groups would fill every longer list of candidates, so their rows are asked for no more.

        Returns:
            Empty where no row could; None where any could.
        """
        column = self.options.group_by
        if column is None or shaped.groups is None:
            return None
        # A column may be called `true`, `null` or `interval`.
        name = f"`{column}`"
        values = [shaped.groups[at] for at in shaped.chosen.at]
        sizes = Counter(value for value in values if value is not None)
        # A row without a value is a group of its own.
        opened = len(sizes) + sum(value is None for value in values)
        if opened == self.options.k:
            wanting = [value for value, size in sizes.items() if size < self.options.per_group]
            return f"{name} IN ({_listed(wanting)})" if wanting else ""
        full = [value for value, size in sizes.items() if size == self.options.per_group]
        return f"{name} IS NULL OR {name} NOT IN ({_listed(full)})" if full else None


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(literal, values))


def _found(shaped: _Shaped, *, complete: bool) -> Found:
    at = shaped.chosen.at
    ids = shaped.kept.rows.column("id").to_pylist()
    groups = [None if shaped.groups is None else shaped.groups[place] for place in at]
    return Found(
        shaped.kept.scores[at].tolist(),
        [None if group is None else str(group) for group in groups],
        [tuple(ids[place] for place in places) for places in shaped.chosen.folded],
        shaped.kept.rows.take(np.array(at, np.int64)),
        complete,
    )
