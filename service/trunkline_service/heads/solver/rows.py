"""Transformed rows, a block at a time: what every pass over the data reads.

Each row ends with a 1, the feature of the intercept: so it takes part in the matrix products, and no pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Mapping: TypeAlias = Callable[[NDArray[np.float32]], NDArray[Any]]
"""From (n, dim) rows to (n, D) transformed ones, row by row."""

_BLOCK = 4096
# Up to this size the transformed rows are kept; above it each block is transformed anew in every pass, so that
# embeddings mapped from a file never have to fit into memory.
_KEPT_BYTES = 2 << 30


class Rows:
    """(N, D + 1) rows as a head's linear part sees them."""

    def __init__(
        self,
        embeddings: NDArray[np.float32],
        transform: Mapping,
        dtype: type[np.floating[Any]] = np.float32,
        kept_bytes: int = _KEPT_BYTES,
    ) -> None:
        """Keeps a copy of what is small; ``embeddings`` may be mapped from a file.

        Args:
            embeddings: (N, dim), N at least 1.
            transform: Applied to each row.
            dtype: float32 or float64, of the blocks.
            kept_bytes: Up to this size, all transformed rows are kept.
        """
        self.dtype = dtype
        self._embeddings, self._transform = embeddings, transform
        self.dim = int(self._made(slice(0, 1)).shape[1]) - 1
        self._copy: Array | None = None
        if len(embeddings) * (self.dim + 1) * np.dtype(dtype).itemsize <= kept_bytes:
            copy = np.empty((len(embeddings), self.dim + 1), dtype)
            for where in _slices(len(embeddings)):
                copy[where] = self._made(where)
            self._copy = copy

    def __len__(self) -> int:
        return len(self._embeddings)

    @property
    def kept(self) -> bool:
        """Whether all transformed rows are in memory."""
        return self._copy is not None

    def reorder(self, order: NDArray[np.int64]) -> None:
        """Puts rows that are kept into another order."""
        assert self._copy is not None, "rows in a file stay in its order"
        self._copy = self._copy[order]

    def block(self, where: slice) -> Array:
        """(n, D + 1) C-contiguous rows of a slice."""
        return self._made(where) if self._copy is None else self._copy[where]

    def at(self, positions: NDArray[np.int64]) -> Array:
        """(n, D + 1) rows at positions."""
        return self._made(positions) if self._copy is None else self._copy[positions]

    def gram(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(D, D) float64 weighted sum of the rows' outer products."""
        total = np.zeros((self.dim, self.dim))
        for where in _slices(len(self)):
            rows = self.block(where)[:, :-1]
            total += (rows * weights[where, None].astype(self.dtype)).T @ rows
        return total

    def gram_times(self, weights: Array, vectors: Array) -> Array:
        """(D, m) the weighted sum of the rows' outer products, times (D, m) ``vectors``."""
        total = np.zeros((self.dim, vectors.shape[1]))
        for where in _slices(len(self)):
            rows = self.block(where)[:, :-1]
            total += rows.T @ (weights[where, None] * (rows @ vectors))
        return total

    def mean_square(self, weights: Array) -> float:
        """The weighted sum of the rows' squared lengths."""
        blocks = ((self.block(where)[:, :-1], weights[where]) for where in _slices(len(self)))
        return float(sum(np.einsum("nd,nd,n->", rows, rows, own) for rows, own in blocks))

    def _made(self, where: slice | NDArray[np.int64]) -> Array:
        rows = self._transform(np.ascontiguousarray(self._embeddings[where]))
        made = np.ones((len(rows), rows.shape[1] + 1), self.dtype)
        made[:, :-1] = rows
        return made


def _slices(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))
