"""Exact nearest neighbours by cosine: every vector is compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.matrix import EmbeddingMatrix

# Rows normalised, or gathered for a filtered search, at a time: bounds the extra memory to some
# tens of megabytes.
_BLOCK_ROWS = 16_384


class FlatIndex:
    """An immutable index over the rows of a matrix; safe to share among threads.

    Holds one L2-normalised copy of the vectors, on which an inner product is a cosine. A vector of
    zeros has no direction: its cosine to everything is 0.

    Args:
        matrix: Its vectors are copied; position i of the index is row i of the matrix.
        threads: The most threads that one search uses.

    Attributes:
        dim: Floats of one vector.
    """

    def __init__(self, matrix: EmbeddingMatrix, threads: int) -> None:
        self.dim = matrix.embeddings.shape[1]
        self._vectors = normalised(matrix.embeddings)
        self._threads = threads

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def nbytes(self) -> int:
        """Bytes of its vectors."""
        return self._vectors.nbytes

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k most similar rows of each query, best first; of equal scores the lower position first.

        Args:
            queries: float32 (Q, dim), finite.
            k: At least 1.
            allowed: bool (N,): the rows that may be found; None for all.

        Returns:
            Cosines in -1..1, float32 (Q, k), and positions, int64 (Q, k). Where fewer than k rows
            may be found, the rest is ``-inf`` and ``-1``.
        """
        unit = normalised(queries)
        if allowed is None or allowed.all():
            scores, positions = self._nearest(unit, self._vectors, k)
        else:
            scores, positions = self._search_some(unit, k, np.flatnonzero(allowed))
        return _ranked(scores, positions)

    def _search_some(
        self, unit: NDArray[np.float32], k: int, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Gathers the rows block by block, and keeps the best k of all blocks so far."""
        best = np.full((len(unit), k), -np.inf, np.float32), np.full((len(unit), k), -1, np.int64)
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = rows[start : start + _BLOCK_ROWS]
            scores, found = self._nearest(unit, self._vectors[block], k)
            positions = np.where(found < 0, -1, block[found])
            both = np.hstack([best[0], scores]), np.hstack([best[1], positions])
            scores, positions = _ranked(*both)
            best = scores[:, :k], positions[:, :k]
        return best

    def _nearest(
        self, unit: NDArray[np.float32], vectors: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        import faiss

        if not len(unit) or not len(vectors):
            return np.full((len(unit), k), -np.inf, np.float32), np.full((len(unit), k), -1, np.int64)
        # OpenMP keeps this number for each calling thread. FAISS shares out queries, so threads
        # beyond them only wait, and made one query four times slower.
        faiss.omp_set_num_threads(min(self._threads, len(unit)))
        scores, positions = faiss.knn(unit, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
        scores = np.where(positions < 0, -np.inf, np.clip(scores, -1.0, 1.0))
        return scores.astype(np.float32, copy=False), positions.astype(np.int64, copy=False)


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy of float32 (N, dim) with rows of length 1; rows of zeros stay.

    Lengths are taken in double precision, so that no finite vector is too long or too short.
    """
    unit = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors[start : start + _BLOCK_ROWS].astype(np.float64)
        length = np.sqrt(np.einsum("ij,ij->i", block, block))
        length[length == 0] = 1.0
        np.divide(block, length[:, None], out=unit[start : start + _BLOCK_ROWS], casting="same_kind")
    return unit


def _ranked(
    scores: NDArray[np.float32], positions: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    order = np.lexsort((positions, -scores), axis=-1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)
