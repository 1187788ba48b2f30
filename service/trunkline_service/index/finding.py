"""The candidates of a view, until there are enough hits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index import shaping
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.view import Answer, View

_MORE = 4
_FEWEST = 64


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
        groups_of: Values of the column to group by, of slots; None where hits are not grouped.
    """

    view: View
    options: SearchOptions
    search: Callable[[int, NDArray[np.int64]], Answer]
    groups_of: Callable[[NDArray[np.int64]], Sequence[Hashable]] | None

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
            answer = self.search(k, open_)
            exact = exact and answer.exact
            for row, query in enumerate(open_.tolist()):
                shaped = self._shaped(
                    answer.scores[row], answer.slots[row], excluded[query], last=k >= len(self.view)
                )
                if shaped is not None:
                    found[query] = shaped
            open_ = np.array([query for query in open_.tolist() if query not in found], np.int64)
            k = min(len(self.view), k * _MORE)
        return [found[query] for query in range(len(excluded))], exact

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
        groups = None if self.groups_of is None else self.groups_of(slots)
        similar = None
        if self.options.collapse is not None:
            vectors = self.view.vectors(slots)
            similar = shaping.similarity(vectors, self.view.spec.metric, self.options.collapse)
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
