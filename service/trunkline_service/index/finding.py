"""The candidates of a view, until there are enough hits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index import shaping
from trunkline_service.index.calling_off import check_wanted, never
from trunkline_service.index.exact import merged
from trunkline_service.index.grouping import Apart, Groups, apart
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.view import Answer, Mask, View

# Candidates of one search, of all its queries: their scores and places take some hundred megabytes.
_MOST_FOUND = 1 << 21


@dataclass(frozen=True, eq=False)
class Found:
    """The hits of one query: slots, scores, what they stand for, best first.

    Attributes:
        slots: Rows of the view.
        scores: Of each.
        groups: The value that each was grouped by, as text; None where there is none.
        folded: For each the slots that were folded into it.
        complete: No row that was left out could be a hit, or be folded into one; see `shaping.MOST_COMPARED`.
    """

    slots: list[int]
    scores: list[float]
    groups: list[str | None]
    folded: list[list[int]]
    complete: bool = True


@dataclass(frozen=True, eq=False)
class Finder:
    """Looks for the hits of queries.

    Attributes:
        view: Where.
        options: How many, and which.
        search: The k best rows of some queries: k, positions of the queries -> their answer.
        groups: The column to group by; None where hits are not grouped.
        allowed: See `View.search`; what `search` searches.
        search_in: As `search`, among other rows.
    """

    view: View
    options: SearchOptions
    search: Callable[[int, NDArray[np.int64]], Answer]
    groups: Groups | None
    allowed: tuple[Mask, ...] | None
    search_in: Callable[[int, NDArray[np.int64], tuple[Mask, ...]], Answer]

    def find(
        self, excluded: Sequence[str | None], *, cancelled: Callable[[], bool] = never
    ) -> tuple[list[Found], bool]:
        """The hits of each query, and whether everything was compared.

        Asks for more candidates, for those queries that lack hits, until they have enough or there are none, or
        so many that no more are compared with each other.

        Args:
            excluded: For each query the id of a row that is no hit of it, or None.
            cancelled: Asked before every search, and now and then between them.

        Raises:
            Cancelled: ``cancelled`` said so.
        """
        found: dict[int, Found] = {}
        open_ = np.arange(len(excluded))
        k = shaping.first_k(self.options, len(self.view), excludes=any(excluded))
        most = shaping.most_k(self.options, len(self.view))
        exact = True
        while len(open_):
            shaped, all_compared = self._round(k, open_, excluded, last=k >= most, cancelled=cancelled)
            found |= shaped
            exact = exact and all_compared
            open_ = np.array([query for query in open_.tolist() if query not in found], np.int64)
            if len(open_) and self.groups is not None and self.options.collapse is None:
                each = apart(self.view, self.groups, self.allowed)
                if each is not None:
                    by_group, all_compared = self._group_by_group(open_, each, excluded, cancelled)
                    found |= by_group
                    exact = exact and all_compared
                    break
            k = min(most, k * shaping.MORE)
        hits = [found[query] for query in range(len(excluded))]
        return hits, exact and all(each.complete for each in hits)

    def _round(
        self,
        k: int,
        queries: NDArray[np.int64],
        excluded: Sequence[str | None],
        *,
        last: bool,
        cancelled: Callable[[], bool],
    ) -> tuple[dict[int, Found], bool]:
        """The hits of those of some queries that k candidates are enough for; whether everything was compared."""
        found: dict[int, Found] = {}
        exact = True
        step = max(1, _MOST_FOUND // k)
        for start in range(0, len(queries), step):
            check_wanted(cancelled)
            asked = queries[start : start + step]
            answer = self.search(k, asked)
            exact = exact and answer.exact
            for row, query in enumerate(asked.tolist()):
                shaped = self._shaped(
                    answer.scores[row], answer.slots[row], excluded[query], last=last, cancelled=cancelled
                )
                if shaped is not None:
                    found[query] = shaped
        return found, exact

    def _group_by_group(
        self,
        queries: NDArray[np.int64],
        each: Iterable[Apart],
        excluded: Sequence[str | None],
        cancelled: Callable[[], bool],
    ) -> tuple[dict[int, Found], bool]:
        """The hits of some queries from the best rows of each group, whose rows together are compared once.

        Where one value has the nearest thousand rows, asking for more candidates would ask for all of them.
        """
        answers = []
        for rows, valued in each:
            check_wanted(cancelled)
            # Of rows without a value each stands for itself.
            most = self.options.per_group if valued else self.options.k
            if any(part.any() for part in rows):
                answers.append(self.search_in(most + any(excluded), queries, rows))
        if not answers:
            return {query: Found([], [], [], []) for query in queries.tolist()}, True
        width = sum(answer.slots.shape[1] for answer in answers)
        scores, slots = merged([(answer.scores, answer.slots) for answer in answers], width)
        found = {}
        for row, query in enumerate(queries.tolist()):
            shaped = self._shaped(scores[row], slots[row], excluded[query], last=True, cancelled=cancelled)
            assert shaped is not None
            found[query] = shaped
        return found, all(answer.exact for answer in answers)

    def _shaped(
        self,
        scores: NDArray[np.float32],
        slots: NDArray[np.int64],
        excluded: str | None,
        *,
        last: bool,
        cancelled: Callable[[], bool],
    ) -> Found | None:
        """The hits; None where further candidates could add to them."""
        check_wanted(cancelled)
        count = shaping.within(scores, slots, self.options.min_score, self.view.spec.metric)
        # Fewer than were asked for, or than there are rows: no other could be a hit.
        all_there = count < len(slots) or count >= len(self.view)
        scores, slots = scores[:count], slots[:count]
        if excluded is not None:
            kept = [at for at, row_id in enumerate(self.view.texts(slots, "ids")) if row_id != excluded]
            scores, slots = scores[kept], slots[kept]
        groups = None if self.groups is None else self.groups.of(slots)
        similar = None
        if self.options.collapse is not None:
            vectors = self.view.vectors(slots)
            similar = shaping.Similarity(vectors, self.view.spec.metric, self.options.collapse)
        chosen = shaping.choose(
            len(slots), self.options.k, self.options.per_group, groups, similar, cancelled
        )
        if not (chosen.enough or last or all_there):
            return None
        return Found(
            slots[chosen.at].tolist(),
            scores[chosen.at].tolist(),
            [None if groups is None or groups[at] is None else _text(groups[at]) for at in chosen.at],
            [slots[places].tolist() for places in chosen.folded],
            complete=chosen.enough or all_there or self.options.collapse is None,
        )


def _text(value: Hashable) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
