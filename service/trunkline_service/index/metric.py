"""How vectors are compared; pure. A score is higher for what is nearer, whatever the metric."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK_ROWS = 16_384


def prepared(vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """float32 (N, dim) in the form that is compared: of length 1 for ``cosine``, as they are for the others.

    For ``cosine`` a copy: a vector of zeros stays, and its cosine to everything is 0. Lengths are taken in
    double precision, so that no finite vector is too long or too short.
    """
    if metric != "cosine":
        return np.ascontiguousarray(vectors, np.float32)
    unit = np.empty(vectors.shape, np.float32)
    normalise_into(vectors, unit)
    return unit


def normalise_into(vectors: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Writes the vectors (N, dim), scaled to length 1, to ``out``, which may be ``vectors``."""
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors[start : start + _BLOCK_ROWS].astype(np.float64)
        length = np.sqrt(np.einsum("ij,ij->i", block, block))
        length[length == 0] = 1.0
        np.divide(block, length[:, None], out=out[start : start + _BLOCK_ROWS], casting="same_kind")


def pair_scores(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], metric: str
) -> NDArray[np.float32]:
    """Scores of each query with vectors of its own.

    Args:
        queries: float32 (Q, dim), prepared.
        vectors: float32 (Q, n, dim), prepared.
        metric: ``cosine``, ``dot``, or ``euclidean`` (the score is minus the distance).

    Returns:
        float32 (Q, n). Of a pair it is the same to the last bit, whatever it is computed beside.
    """
    if metric == "euclidean":
        apart = vectors - queries[:, None, :]
        distances: NDArray[np.float32] = np.sqrt(np.einsum("qnd,qnd->qn", apart, apart))
        return -distances
    # Not by BLAS, whose last bits depend on where in a matrix a row lies.
    products: NDArray[np.float32] = np.einsum("qnd,qd->qn", vectors, queries)
    return np.clip(products, -1.0, 1.0) if metric == "cosine" else products
