"""Which inverted lists of an IVF a query looks into."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index.kinds.spread import Spread

# Up to so many, the best is taken again and again: at 4,096 lists faster than selecting them at once.
_ONE_BY_ONE = 8
# Lists that are looked at first, and how many times as many next, until they hold enough.
_FIRST_LOOK, _FURTHER = 32, 4


class Scored(NamedTuple):
    """Queries beside every centroid.

    Attributes:
        moved: float32 (Q, dim): the queries, from where distances are taken.
        scores: float32 (Q, nlist): higher for what is nearer.
    """

    moved: NDArray[np.float32]
    scores: NDArray[np.float32]


class Lists:
    """The centroids of an IVF; immutable.

    NumPy's products, as FAISS's own quantizer took as long as the whole rest of a search.

    Args:
        centroids: float32 (nlist, dim).
        metric: Of the vectors.
    """

    def __init__(self, centroids: NDArray[np.float32], metric: str) -> None:
        self._euclidean = metric == "euclidean"
        # Distances are taken from the middle, where squares of large coordinates don't drown them.
        self._middle = centroids.mean(axis=0) if self._euclidean else np.zeros_like(centroids[0])
        self._turned = np.ascontiguousarray((centroids - self._middle).T)
        self._halves = np.einsum("ij,ij->j", self._turned, self._turned) / 2

    def __len__(self) -> int:
        return int(self._turned.shape[1])

    def scored(self, queries: NDArray[np.float32]) -> Scored:
        """Compares queries with every centroid.

        Args:
            queries: float32 (Q, dim), prepared.
        """
        moved = queries - self._middle if self._euclidean else queries
        scores = moved @ self._turned
        if self._euclidean:
            scores -= self._halves
        return Scored(moved, scores)

    def nearest(self, scored: Scored, count: int) -> NDArray[np.int64]:
        """The ``count`` best lists of each query, in no order, int64 (Q, count).

        Args:
            scored: The queries.
            count: 1..nlist.
        """
        return _best(scored.scores, count)

    def nearest_holding(self, scored: Scored, rows: NDArray[np.int64], enough: int) -> NDArray[np.int64]:
        """The best lists of each query until together they hold enough rows.

        Args:
            scored: The queries.
            rows: int64 (nlist,), that each list holds; those of none are passed over.
            enough: Rows; all lists where there are fewer.

        Returns:
            int64 (Q, n), with -1 after the lists of a query that needs fewer.
        """
        scores = np.where(rows > 0, scored.scores, np.float32(-np.inf))
        filled = max(1, int(np.count_nonzero(rows)))
        count = min(filled, _FIRST_LOOK)
        while True:
            lists = _best(scores, count)
            order = np.argsort(-np.take_along_axis(scores, lists, 1), axis=1)
            lists = np.take_along_axis(lists, order, 1)
            held = np.cumsum(rows[lists], axis=1)
            if count == filled or held[:, -1].min(initial=enough) >= enough:
                break
            count = min(filled, count * _FURTHER)
        needed = held - rows[lists] < enough
        width = max(1, int(needed.sum(axis=1).max(initial=1)))
        return np.where(needed, lists, -1)[:, :width]

    def distances(self, scored: Scored, lists: NDArray[np.int64]) -> NDArray[np.float32]:
        """FAISS's distances of queries to the centroids of lists (Q, n), where those are not -1.

        Returns:
            float32 (Q, n): inner products, or for ``euclidean`` squared distances.
        """
        scores = np.take_along_axis(scored.scores, np.maximum(lists, 0), 1)
        return self._squared(scored, scores) if self._euclidean else scores

    def expected(self, scored: Scored, spread: Spread) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The scores that the rows of each list are expected to have.

        Args:
            scored: The queries.
            spread: Of the lists' rows.

        Returns:
            Their mean and their standard deviation, float32 (Q, nlist); of ``euclidean`` minus the squared distance.
        """
        # Of a row x = c + r, q.x is q.c and what q.r adds; |q - x|^2 is |q - c|^2, |r|^2, and twice (c - q).r.
        # Variances too large for single precision are infinite: such a list is looked into.
        with np.errstate(over="ignore", invalid="ignore"):
            directed = spread.directed
            along = scored.moved @ spread.directions
            if not self._euclidean:
                own = np.einsum("ij,ij->i", scored.moved, scored.moved)[:, None]
                variances = spread.rest * own
                variances[:, directed] += spread.main[directed] * along**2
                return scored.scores * spread.shrink, np.sqrt(variances, out=variances)
            apart = self._squared(scored, scored.scores)
            along -= np.einsum("ji,ji->i", self._turned[:, directed], spread.directions)
            variances = spread.rest * apart
            variances[:, directed] += spread.main[directed] * along**2
            variances = 4 * variances + spread.square_variance
            return -(apart + spread.square), np.sqrt(variances, out=variances)

    def _squared(self, scored: Scored, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        squares = np.einsum("ij,ij->i", scored.moved, scored.moved)[:, None]
        distances: NDArray[np.float32] = np.maximum(squares - 2 * scores, 0)
        return distances


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    width = scores.shape[1]
    if count == width:
        return np.broadcast_to(np.arange(width), scores.shape).copy()
    if count > _ONE_BY_ONE:
        return np.ascontiguousarray(np.argpartition(scores, width - count, axis=1)[:, -count:])
    left, rows = scores.copy(), np.arange(len(scores))
    found = np.empty((len(scores), count), np.int64)
    for place in range(count):
        found[:, place] = left.argmax(axis=1)
        left[rows, found[:, place]] = -np.inf
    return found
