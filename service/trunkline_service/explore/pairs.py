"""Pairs of rows that are nearly the same, as they are found; and every pair of a small collection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.explore.live import Told
from trunkline_service.heads.training.partitions import components
from trunkline_service.index.exact import half_squares_of
from trunkline_service.index.metric import pair_scores
from trunkline_service.index.workers import Workers

Positions = NDArray[np.int64]
Scores = NDArray[np.float32]

_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 4096
_WORTH_A_THREAD = 2048
_HELD = 1 << 20
_SCORED = 1 << 22
# Products of float32 vectors of length 1 are right to about a millionth; scores are then taken anew.
_SLACK = 1e-5
# Of equal vectors the cosine may come out a little below 1: the more, the more products are summed.
_ROUNDING, _ROUNDED_DIM = 1e-6, 4096
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows that are at least as near as a threshold.

    Attributes:
        first: int64 (P,), positions; each lower than its ``second``.
        second: int64 (P,).
        scores: float32 (P,), highest first.
        count: Of all pairs; P is less where there are more than were to be kept.
        codes: int64 (N,), equal for rows that pairs join, directly or through others.
        best: float32 (N,), of each row the score of its best pair; ``-inf`` where it has none.
    """

    first: Positions
    second: Positions
    scores: Scores
    count: int
    codes: Positions
    best: Scores


class PairSink:
    """Takes pairs as they come, each of them once. What it holds is bounded, however many they are.

    Args:
        rows: N.
        most: Pairs to keep, those of the highest scores.
    """

    def __init__(self, rows: int, most: int) -> None:
        self._most = most
        self._count = 0
        self._codes: Positions = np.arange(rows)
        self._best: Scores = np.full(rows, -np.inf, np.float32)
        self._joins: list[Positions] = []
        self._joining = 0
        self._kept: list[tuple[Positions, Positions, Scores]] = []
        self._keeping = 0

    def add(self, first: Positions, second: Positions, scores: Scores) -> None:
        """Takes some pairs."""
        if not len(first):
            return
        self._count += len(first)
        for side in (first, second):
            np.maximum.at(self._best, side, scores)
        ends = np.stack([self._codes[first], self._codes[second]], axis=1)
        apart = ends[ends[:, 0] != ends[:, 1]]
        self._joins.append(apart)
        self._joining += len(apart)
        if self._joining >= _HELD:
            self._join()
        self._kept.append((np.minimum(first, second), np.maximum(first, second), scores))
        self._keeping += len(first)
        if self._keeping >= self._most + _HELD:
            self._keep()

    def pairs(self) -> Pairs:
        """What was taken."""
        self._join()
        self._keep()
        first, second, scores = self._kept[0] if self._kept else _nothing()
        order = np.lexsort((second, first, -scores))
        return Pairs(first[order], second[order], scores[order], self._count, self._codes, self._best)

    def _join(self) -> None:
        if self._joining:
            codes = components(len(self._codes), np.concatenate(self._joins))
            self._codes = codes[self._codes]
        self._joins, self._joining = [], 0

    def _keep(self) -> None:
        if not self._kept:
            return
        first, second, scores = (np.concatenate(parts) for parts in zip(*self._kept, strict=True))
        if len(scores) > self._most:
            best = np.lexsort((second, first, -scores))[: self._most]
            first, second, scores = first[best], second[best], scores[best]
        self._kept, self._keeping = [(first, second, scores)], len(first)


class Near:
    """Which of some rows are at least as near to others as a threshold.

    Args:
        vectors: float32 (N, dim), of length 1 for ``cosine``.
        compared: ``cosine`` or ``euclidean``.
        threshold: A cosine, from which rounding may take a millionth; or minus a distance.
    """

    def __init__(self, vectors: NDArray[np.float32], compared: str, threshold: float) -> None:
        self.vectors = vectors
        self._euclidean = compared == "euclidean"
        # Of cosines, and of -d^2/2.
        self._least, self._floor = threshold, threshold
        if self._euclidean:
            self._least = max(threshold, -_LARGEST)
            self._floor = max(-threshold * threshold / 2, -_LARGEST)
        else:
            self._least -= _ROUNDING * max(1.0, math.sqrt(vectors.shape[1] / _ROUNDED_DIM))
        self._halves = half_squares_of(vectors) if self._euclidean else None

    def among(
        self, rows: Positions | slice, others: Positions | slice
    ) -> tuple[Positions, Positions, Scores]:
        """The hits of each row among others: places in ``rows``, places in ``others``, and scores.

        A row's hit is itself too, where it is among the others.
        """
        left, right = self.vectors[rows], self.vectors[others]
        products = left @ right.T
        if self._halves is None:
            found = products >= self._floor - _SLACK
        else:
            # -d^2/2 = x.y - |x|^2/2 - |y|^2/2, which cancels where vectors are long and near.
            long = self._halves[rows][:, None] + self._halves[others][None, :]
            products -= long
            found = products >= self._floor - _SLACK * (1 + long)
        first, second = np.divmod(np.flatnonzero(found), len(right))
        scores = self._scores(left, right, first, second)
        kept = scores >= np.float32(self._least)
        return first[kept], second[kept], scores[kept]

    def _scores(
        self, left: NDArray[np.float32], right: NDArray[np.float32], first: Positions, second: Positions
    ) -> Scores:
        """Scores of pairs, taken one by one: the same whatever they were found beside."""
        scores = np.empty(len(first), np.float32)
        step = max(1, _SCORED // left.shape[1])
        for start in range(0, len(first), step):
            part = slice(start, start + step)
            one, other = left[first[part]], right[second[part]]
            compared = "euclidean" if self._euclidean else "cosine"
            scores[part] = pair_scores(one, other[:, None, :], compared)[:, 0]
        return scores


def all_pairs(near: Near, sink: PairSink, workers: Workers, told: Told) -> None:
    """Compares every row with every other one."""
    rows = len(near.vectors)

    def compare(block: slice, first: int, end: int) -> list[tuple[Positions, Positions, Scores]]:
        found = []
        for start in range(first, end, _BLOCK_COLUMNS):
            left, right, scores = near.among(block, slice(start, min(start + _BLOCK_COLUMNS, end)))
            left, right = left + block.start, right + start
            fresh = left < right
            found.append((left[fresh], right[fresh], scores[fresh]))
        return found

    for start in range(0, rows, _BLOCK_ROWS):
        # What is left is a triangle.
        told("comparing", 1 - ((rows - start) / rows) ** 2)
        block = slice(start, min(start + _BLOCK_ROWS, rows))
        parts = workers.shared_out(
            rows - start,
            _WORTH_A_THREAD,
            lambda first, end, block=block: compare(block, block.start + first, block.start + end),  # type: ignore[misc]
        )
        for part in parts:
            for found in part:
                sink.add(*found)
    told("comparing", 1.0)


def _nothing() -> tuple[Any, Any, Any]:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
