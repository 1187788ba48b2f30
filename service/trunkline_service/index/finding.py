"""The candidates of a view, until there are enough hits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index import shaping
from trunkline_service.index.exact import merged
from trunkline_service.index.grouping import Groups, apart
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.view import Answer, Mask, View

_MORE = 4
_FEWEST = 64
# Candidates of one search, of all its queries: their scores and places take some hundred megabytes.
_MOST_FOUND = 1 << 21


@dataclass(frozen=True, eq=False)
class Found:
    """The hits of one query: slots, scores, what they stand for, best first."""

    slots: list[int]
    scores: list[float]
    groups: list[str | None]
    folded: list[list[int]]


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

    def find(self, excluded: Sequence[str | None]) -> tuple[list[Found], bool]:
        """The hits of each query, and whether everything was compared.

        Asks for more candidates, for those queries that lack hits, until they have enough or there are none.

        Args:
            excluded: For each query the id of a row that is no hit of it, or None.
        """
        found: dict[int, Found] = {}
        open_ = np.arange(len(excluded))
        k = self._first_k(any(excluded))
        exact = True
        while len(open_):
            step = max(1, _MOST_FOUND // k)
            for start in range(0, len(open_), step):
                asked = open_[start : start + step]
                answer = self.search(k, asked)
                exact = exact and answer.exact
                for row, query in enumerate(asked.tolist()):
                    shaped = self._shaped(
                        answer.scores[row], answer.slots[row], excluded[query], last=k >= len(self.view)
                    )
                    if shaped is not None:
                        found[query] = shaped
            open_ = np.array([query for query in open_.tolist() if query not in found], np.int64)
            if len(open_) and self.groups is not None and self.options.collapse is None:
                masks = apart(self.view, self.groups, self.allowed)
                if masks is not None:
                    by_group, all_compared = self._group_by_group(open_, masks, excluded)
                    found |= by_group
                    exact = exact and all_compared
                    break
            k = min(len(self.view), k * _MORE)
        return [found[query] for query in range(len(excluded))], exact

    def _group_by_group(
        self, queries: NDArray[np.int64], masks: list[tuple[Mask, ...]], excluded: Sequence[str | None]
    ) -> tuple[dict[int, Found], bool]:
        """The hits of some queries from the best rows of each group, whose rows together are compared once.

        Where one value has the nearest thousand rows, asking for more candidates would ask for all of them.
        """
        answers = []
        for place, rows in enumerate(masks):
            # The last are rows without a value, of which each stands for itself.
            most = self.options.k if place == len(masks) - 1 else self.options.per_group
            if any(part.any() for part in rows):
                answers.append(self.search_in(most + any(excluded), queries, rows))
        if not answers:
            return {query: Found([], [], [], []) for query in queries.tolist()}, True
        width = sum(answer.slots.shape[1] for answer in answers)
        scores, slots = merged([(answer.scores, answer.slots) for answer in answers], width)
        found = {}
        for row, query in enumerate(queries.tolist()):
            shaped = self._shaped(scores[row], slots[row], excluded[query], last=True)
            assert shaped is not None
            found[query] = shaped
        return found, all(answer.exact for answer in answers)

    def _first_k(self, excludes: bool) -> int:
        wanted = self.options.k * (self.options.per_group if self.options.group_by else 1)
        if self.options.group_by or self.options.collapse is not None:
            wanted = max(_FEWEST, _MORE * wanted)
        return max(1, min(len(self.view), wanted + excludes))

    def _shaped(
        self, scores: NDArray[np.float32], slots: NDArray[np.int64], excluded: str | None, last: bool
    ) -> Found | None:
        """The hits; None where further candidates could add to them."""
        count = shaping.within(scores, slots, self.options.min_score)
        last = last or count < len(slots)
        scores, slots = scores[:count], slots[:count]
        if excluded is not None:
            kept = [at for at, row_id in enumerate(self.view.texts(slots, "ids")) if row_id != excluded]
            scores, slots = scores[kept], slots[kept]
        groups = None if self.groups is None else self.groups.of(slots)
        similar = None
        if self.options.collapse is not None:
            vectors = self.view.vectors(slots)
            similar = shaping.Similarity(vectors, self.view.spec.metric, self.options.collapse)
        chosen = shaping.choose(len(slots), self.options.k, self.options.per_group, groups, similar)
        if not chosen.enough and not last:
            return None
        return Found(
            slots[chosen.at].tolist(),
            scores[chosen.at].tolist(),
            [None if groups is None or groups[at] is None else _text(groups[at]) for at in chosen.at],
            [slots[places].tolist() for places in chosen.folded],
        )


def _text(value: Hashable) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
