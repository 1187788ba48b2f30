"""One pass over the rows: mean losses and gradients of all problems, block by block on every core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.solver.basis import Basis
from trunkline_service.heads.solver.losses import Loss
from trunkline_service.heads.solver.problems import Problems
from trunkline_service.heads.solver.rows import Rows

Array = NDArray[Any]
# Logits of a block stay in the second-level cache where K x B is small; below 256 rows BLAS slows down.
_LOGITS = 1 << 19
_LEAST_ROWS, _MOST_ROWS = 256, 4096


@dataclass(frozen=True, eq=False)
class Values:
    """What a pass found of B problems.

    Attributes:
        losses: (B,) float64, penalty included.
        gradients: (K, B, dim + 1) in the coordinates of the basis, the intercepts last.
        curvatures: (K, B) mean of ``p (1 - p)``; None where nobody asked.
    """

    losses: NDArray[np.float64]
    gradients: Array
    curvatures: Array | None


class Pass(Protocol):
    """Evaluates problems at weights (K, B, dim + 1)."""

    def __call__(self, problems: Problems, weights: Array, *, curvature: bool = False) -> Values:
        """The values at ``weights``, in the coordinates of the basis, the intercepts last."""

    def logits(self, weights: Array, positions: NDArray[np.int64]) -> Array:
        """(K, B, n) logits of the rows at positions."""


class NumpyPass:
    """Passes in numpy; each worker takes its share of the blocks, with BLAS on one thread a worker."""

    def __init__(
        self,
        rows: Rows,
        basis: Basis,
        loss: Loss,
        row_weights: NDArray[np.float64],
        row_folds: NDArray[np.int64],
        executor: Executor,
        workers: int,
    ) -> None:
        """Takes the rows in standardised features; see `Problems` for weights and folds."""
        self._rows, self._basis, self._loss = rows, basis, loss
        self._row_weights = row_weights.astype(rows.dtype)
        self._row_folds = row_folds
        self._executor, self._workers = executor, workers

    def __call__(self, problems: Problems, weights: Array, *, curvature: bool = False) -> Values:
        """See `Pass`."""
        classes, count, _ = weights.shape
        coefficients = self._basis.to_features(weights[..., :-1]).reshape(classes * count, -1)
        intercepts = weights[..., -1].reshape(-1, 1)

        def share(blocks: Sequence[slice]) -> tuple[Array, Array, Array | None]:
            losses = np.zeros(count)
            gradient = np.zeros((classes * count, weights.shape[2]), weights.dtype)
            curvatures = np.zeros((classes, count)) if curvature else None
            for where in blocks:
                block = self._rows.block(where)
                logits = coefficients @ block.T
                logits += intercepts
                logits = logits.reshape(classes, count, -1)
                loss, curved = self._loss.residuals(
                    logits, where, self._weights_of(problems, where), curvature=curvature
                )
                flat = logits.reshape(classes * count, -1)
                losses += loss
                gradient[:, :-1] += flat @ block
                gradient[:, -1] += flat.sum(axis=1)
                if curvatures is not None and curved is not None:
                    curvatures += curved
            return losses, gradient, curvatures

        losses, gradients, curvatures = self._gathered(share, classes * count)
        return finished(problems, weights, self._basis, losses, gradients.reshape(weights.shape), curvatures)

    def logits(self, weights: Array, positions: NDArray[np.int64]) -> Array:
        """See `Pass`."""
        coefficients = self._basis.to_features(weights[..., :-1])
        flat = coefficients.reshape(-1, coefficients.shape[-1])
        found = np.empty((len(flat), len(positions)), weights.dtype)
        for start in range(0, len(positions), _MOST_ROWS):
            part = slice(start, start + _MOST_ROWS)
            found[:, part] = flat @ self._rows.at(positions[part]).T
        return found.reshape(*weights.shape[:2], -1) + weights[..., -1:]

    def _weights_of(self, problems: Problems, where: slice) -> Array:
        kept = self._row_folds[None, where] != problems.folds[:, None]
        weights: Array = kept * self._row_weights[None, where]
        return weights

    def _gathered(
        self, share: Callable[[Sequence[slice]], tuple[Array, Array, Array | None]], width: int
    ) -> tuple[Array, Array, Array | None]:
        size = int(np.clip(_LOGITS // width, _LEAST_ROWS, _MOST_ROWS))
        blocks = [
            slice(start, min(start + size, len(self._rows))) for start in range(0, len(self._rows), size)
        ]
        # The calling thread works, too: a fit never waits for threads that others keep busy.
        others = [
            self._executor.submit(share, blocks[worker :: self._workers])
            for worker in range(1, min(self._workers, len(blocks)))
        ]
        losses, gradients, curvatures = share(blocks[:: self._workers])
        for other in others:
            more_losses, more_gradients, more_curvatures = other.result()
            losses += more_losses
            gradients += more_gradients
            if curvatures is not None and more_curvatures is not None:
                curvatures += more_curvatures
        return losses, gradients, curvatures


def finished(
    problems: Problems,
    weights: Array,
    basis: Basis,
    losses: NDArray[np.float64],
    gradients: Array,
    curvatures: Array | None,
) -> Values:
    """Sums over rows as mean losses with their penalties.

    Args:
        problems: B of them.
        weights: (K, B, P) that the sums were taken at.
        basis: Of the weights.
        losses: (B,) sums.
        gradients: (K, B, P) sums, of the features; overwritten.
        curvatures: (K, B) sums, or None.
    """
    gradients /= problems.totals[:, None].astype(gradients.dtype)
    gradients[..., :-1] = basis.from_features(gradients[..., :-1])
    gradients[..., :-1] += problems.penalties[:, None].astype(gradients.dtype) * weights[..., :-1]
    whole = losses / problems.totals + problems.penalties / 2 * squared_norms(weights[..., :-1])
    return Values(whole, gradients, None if curvatures is None else curvatures / problems.totals)


def inner(first: Array, second: Array) -> NDArray[np.float64]:
    """(B,) inner products of (K, B, P) arrays; a problem axis of 1 stands for every problem."""
    by_class: NDArray[np.float64] = np.einsum("kbp,kbp->kb", first, second).sum(axis=0, dtype=np.float64)
    return by_class


def squared_norms(weights: Array) -> NDArray[np.float64]:
    """(B,) squared norms of (K, B, P)."""
    return inner(weights, weights)
