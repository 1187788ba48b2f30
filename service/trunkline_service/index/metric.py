"""How vectors are compared; pure. A score is higher for what is nearer, whatever the metric."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_VALUE, MOST_VALUE = 1e-9, 1e15
"""The largest value of vectors whose products and squared distances, and variances of these, are taken in single
precision is between them, whatever the dimension."""
_BLOCK_ROWS = 16_384
_LARGEST = float(np.finfo(np.float32).max)
# Smaller sums of squares are of what float32 holds in part.
_SMALLEST = 1e-30


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
        float32 (Q, n), finite: what is larger than float32 holds is the largest that it does. Of a pair it is
        the same to the last bit, whatever it is computed beside.
    """
    if metric == "cosine":
        return np.clip(_products(queries, vectors), -1.0, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        if metric == "euclidean":
            apart = vectors - queries[:, None, :]
            squares = np.einsum("qnd,qnd->qn", apart, apart)
            scores: NDArray[np.float32] = -np.sqrt(squares)
            held = (squares >= _SMALLEST) & (squares <= _LARGEST)
        else:
            scores = _products(queries, vectors)
            held = np.isfinite(scores)
    if not held.all():
        rows, columns = np.nonzero(~held)
        anew = _scores_in_double(queries[rows], vectors[rows, columns], metric)
        scores[rows, columns] = in_single(anew)
    return scores


def in_single(scores: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Scores as float32: what is larger than it holds is the largest that it does; ``-inf`` stays."""
    if scores.dtype == np.float32:
        return scores
    held = np.clip(scores, -_LARGEST, _LARGEST)
    return np.where(np.isneginf(scores), -np.inf, held).astype(np.float32)


def _products(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    # Not by BLAS, whose last bits depend on where in a matrix a row lies.
    products: NDArray[np.float32] = np.einsum("qnd,qd->qn", vectors, queries)
    return products


def _scores_in_double(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], metric: str
) -> NDArray[np.float64]:
    """Scores of (n, dim) with (n, dim), float64 (n,), row by row."""
    wide, rows = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "euclidean":
        apart = rows - wide
        distances: NDArray[np.float64] = np.sqrt(np.einsum("nd,nd->n", apart, apart))
        return -distances
    products: NDArray[np.float64] = np.einsum("nd,nd->n", wide, rows)
    return products
