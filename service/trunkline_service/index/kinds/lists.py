"""Which inverted lists of an IVF a query looks into."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Up to so many, the best is taken again and again: at 4,096 lists faster than selecting them at once.
_ONE_BY_ONE = 8
# Lists that are looked at first, and how many times as many next, until they hold enough.
_FIRST_LOOK, _FURTHER = 32, 4


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

    def nearest(
        self, queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ``count`` best lists of each query, in no order.

        Args:
            queries: float32 (Q, dim), prepared.
            count: 1..nlist.

        Returns:
            int64 (Q, count), and FAISS's distances to their centroids, float32 (Q, count): inner products,
            or for ``euclidean`` squared distances.
        """
        moved, scores = self._scores(queries)
        lists = _best(scores, count)
        return lists, self._distances(moved, np.take_along_axis(scores, lists, 1))

    def nearest_holding(
        self, queries: NDArray[np.float32], rows: NDArray[np.int64], enough: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The best lists of each query until together they hold enough rows.

        Args:
            queries: float32 (Q, dim), prepared.
            rows: int64 (nlist,), that each list holds; those of none are passed over.
            enough: Rows; all lists where there are fewer.

        Returns:
            As `nearest`, int64 (Q, n) with -1 after the lists of a query that needs fewer, and float32 (Q, n).
        """
        moved, scores = self._scores(queries)
        scores[:, rows == 0] = -np.inf
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
        distances = self._distances(moved, np.take_along_axis(scores, lists, 1))
        needed = held - rows[lists] < enough
        width = max(1, int(needed.sum(axis=1).max(initial=1)))
        lists = np.where(needed, lists, -1)
        return np.ascontiguousarray(lists[:, :width]), np.ascontiguousarray(distances[:, :width])

    def _scores(self, queries: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        moved = queries - self._middle if self._euclidean else queries
        scores = moved @ self._turned
        if self._euclidean:
            scores -= self._halves
        return moved, scores

    def _distances(self, moved: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._euclidean:
            return scores
        squares = np.einsum("ij,ij->i", moved, moved)[:, None]
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
