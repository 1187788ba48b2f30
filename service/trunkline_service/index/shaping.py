"""From the best rows of a query to its hits: a radius, one row of a group, no near-identical ones; pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-6


class Chosen(NamedTuple):
    """What is left of a query's candidates.

    Attributes:
        at: Positions among the candidates, best first.
        folded: For each of them, positions of candidates that were folded into it.
        enough: No further candidate could change it.
    """

    at: list[int]
    folded: list[list[int]]
    enough: bool


def within(scores: NDArray[np.float32], slots: NDArray[np.int64], min_score: float | None) -> int:
    """How many of a query's candidates, best first, exist and score at least ``min_score``."""
    there = slots >= 0
    if min_score is not None:
        there &= scores >= np.float32(min_score)
    return int(np.count_nonzero(there))


def choose(
    count: int,
    k: int,
    per_group: int,
    groups: Sequence[Hashable] | None,
    similar: NDArray[np.bool_] | None,
) -> Chosen:
    """The hits of one query among its candidates.

    Args:
        count: Candidates, best first.
        k: The most hits; with groups, the most groups.
        per_group: The most hits of a group.
        groups: A value for each candidate; None where hits are not grouped. Rows without a value (None)
            are no group: each stands for itself.
        similar: bool (count, count): which candidates are nearly the same; None where none are folded.
    """
    at: list[int] = []
    folded: list[list[int]] = []
    sizes: dict[Hashable, int] = {}
    full = 0
    most = k if groups is None else k * per_group
    for place in range(count):
        if similar is not None:
            into = next((index for index, kept in enumerate(at) if similar[kept, place]), None)
            if into is not None:
                folded[into].append(place)
                continue
        if groups is not None:
            value = groups[place] if groups[place] is not None else ("row", place)
            size = sizes.get(value, 0)
            if size == per_group or (not size and len(sizes) == k):
                continue
            sizes[value] = size + 1
            full += size + 1 == per_group
        if len(at) == most:
            break
        at.append(place)
        folded.append([])
    enough = len(at) == most if groups is None else len(sizes) == k and full == k
    return Chosen(at, folded, enough)


def similarity(vectors: NDArray[np.float32], metric: str, threshold: float) -> NDArray[np.bool_]:
    """Which rows of (n, dim), prepared, score at least ``threshold`` with each other, bool (n, n)."""
    products = vectors @ vectors.T
    if metric == "euclidean":
        squares = np.diagonal(products)
        products = -np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
    # Of equal vectors the cosine may come out a little below 1.
    alike: NDArray[np.bool_] = products >= np.float32(threshold) - np.float32(_ROUNDING)
    return alike
