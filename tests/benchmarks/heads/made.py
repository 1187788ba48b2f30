"""Made-up embeddings: spectra, classes and wrong labels like real ones'."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
WRONG = 0.03


def embeddings(n: int, dim: int, classes: int, apart: float, seed: int = 0) -> tuple[Rows, NDArray[np.int64]]:
    """(n, dim) standardised rows around class centres, variances falling as 1 / rank, and their (n,) classes."""
    chance = np.random.default_rng(seed)
    spread = np.sqrt((1.0 + np.arange(dim)) ** -1.0)
    basis, _ = np.linalg.qr(chance.normal(size=(dim, dim)))
    codes = chance.integers(0, classes, n)
    centres = apart * chance.normal(size=(classes, dim)) * spread
    rows = (centres[codes] + chance.normal(size=(n, dim)) * spread) @ basis
    wrong = chance.random(n) < WRONG
    codes[wrong] = chance.integers(0, classes, int(wrong.sum()))
    return standardised(rows), codes


def flowers(data: str) -> tuple[Rows, NDArray[np.int64]]:
    """The rows of the collection `flowers`, standardised, and their classes."""
    from trunkline_service.collections.store import CollectionStore

    matrix = CollectionStore(data).open("flowers").matrix(where="label IS NOT NULL")
    _, codes = np.unique(np.array(matrix.labels.to_pylist()), return_inverse=True)
    return standardised(matrix.embeddings), codes.astype(np.int64)


def standardised(rows: NDArray[Any]) -> Rows:
    """Features of mean 0 and variance 1."""
    return np.ascontiguousarray((rows - rows.mean(axis=0)) / rows.std(axis=0), np.float32)
