"""From the best rows of a query to its hits: a radius, one row of a group, no near-identical ones; pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index.calling_off import check_wanted, never
from trunkline_service.index.metric import pair_scores
from trunkline_service.index.query import SearchOptions

MORE = 4
"""So many times the candidates are asked for where those before left too few hits."""
FEWEST = 64
"""Candidates that are asked for at first, at least, where they are grouped or folded."""
MOST_COMPARED = 16_384
"""Candidates of one query that are compared with its hits to fold them: some tens of megabytes of vectors. A query
whose nearest so many rows fold into fewer than k hits is answered with those, and the answer is not exact."""
# Of equal vectors the cosine may come out a little below 1.
_ROUNDING = 1e-6
_ASKED_EVERY = 256
MOST_FOLDED = 100
"""Candidates that are named as folded into a hit; of one threshold it may be all rows of a collection."""


class Chosen(NamedTuple):
    """What is left of a query's candidates.

    Attributes:
        at: Positions among the candidates, best first.
        folded: For each of them, positions of candidates that were folded into it, the best `MOST_FOLDED` of
            them: up to the first one that would be a hit more.
        enough: No further candidate could change it.
    """

    at: list[int]
    folded: list[list[int]]
    enough: bool


def first_k(options: SearchOptions, rows: int, *, excludes: bool) -> int:
    """How many candidates of a query are asked for at first, 1 to ``rows``.

    Args:
        options: How many hits there may be.
        rows: That there are.
        excludes: Whether one of them may be no hit.
    """
    wanted = options.k * (options.per_group if options.group_by else 1)
    if options.group_by or options.collapse is not None:
        wanted = max(FEWEST, MORE * wanted)
    return max(1, min(most_k(options, rows), wanted + excludes))


def most_k(options: SearchOptions, rows: int) -> int:
    """How many candidates of a query are asked for at most."""
    return rows if options.collapse is None else min(rows, MOST_COMPARED)


def within(
    scores: NDArray[np.float32], slots: NDArray[np.int64], min_score: float | None, metric: str
) -> int:
    """How many of a query's candidates, best first, exist and score at least ``min_score``.

    A cosine may be a millionth less: of equal vectors it is not 1 to the last bit.
    """
    there = slots >= 0
    if min_score is not None:
        least = np.float32(min_score)
        there &= scores >= (least - np.float32(_ROUNDING) if metric == "cosine" else least)
    return int(np.count_nonzero(there))


def choose(
    count: int,
    k: int,
    per_group: int,
    groups: Sequence[Hashable] | None,
    similar: Similarity | None,
    cancelled: Callable[[], bool] = never,
) -> Chosen:
    """The hits of one query among its candidates.

    Args:
        count: Candidates, best first.
        k: The most hits; with groups, the most groups.
        per_group: The most hits of a group.
        groups: A value for each candidate; None where hits are not grouped. Rows without a value (None)
            are no group: each stands for itself.
        similar: Which candidates are nearly the same; None where none are folded.
        cancelled: Asked now and then.

    Raises:
        Cancelled: ``cancelled`` said so.
    """
    at: list[int] = []
    folded: list[list[int]] = []
    into = np.full(count, -1)
    sizes: dict[Hashable, int] = {}
    # With so many, every group is full.
    most = k if groups is None else k * per_group
    for place in range(count):
        if place % _ASKED_EVERY == 0:
            check_wanted(cancelled)
        if into[place] >= 0:
            if len(folded[into[place]]) < MOST_FOLDED:
                folded[into[place]].append(place)
            continue
        if len(at) == most:
            return Chosen(at, folded, enough=True)
        if groups is not None:
            value = groups[place] if groups[place] is not None else ("row", place)
            size = sizes.get(value, 0)
            if size == per_group or (not size and len(sizes) == k):
                continue
            sizes[value] = size + 1
            if groups[place] is None:
                most -= per_group - 1
        if similar is not None:
            into[(into < 0) & similar.to(place)] = len(at)
        at.append(place)
        folded.append([])
    return Chosen(at, folded, enough=similar is None and len(at) == most)


@dataclass(frozen=True, eq=False)
class Similarity:
    """Which of n rows are nearly the same.

    Of one row at a time: of a hundred thousand candidates, all pairs would be tens of gigabytes.

    Attributes:
        vectors: float32 (n, dim), prepared.
        metric: Of them.
        threshold: The least score of two that are nearly the same.
    """

    vectors: NDArray[np.float32]
    metric: str
    threshold: float

    def to(self, row: int) -> NDArray[np.bool_]:
        """Which rows are nearly the same as this one, bool (n,)."""
        (scores,) = pair_scores(self.vectors[row : row + 1], self.vectors[None], self.metric)
        alike: NDArray[np.bool_] = scores >= np.float32(self.threshold) - np.float32(_ROUNDING)
        return alike
