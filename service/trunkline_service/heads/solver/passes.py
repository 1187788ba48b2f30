"""One pass over the rows: mean losses and gradients of all problems, block by block on every core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise
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
        self._runs = _runs(row_folds)

    def __call__(self, problems: Problems, weights: Array, *, curvature: bool = False) -> Values:
        """See `Pass`."""
        classes, count, _ = weights.shape
        learners = _Learners(problems, self._basis.to_features(weights))

        def share(blocks: Sequence[slice]) -> _Sums:
            sums = _Sums.zeros(weights, curvature)
            for where in blocks:
                self._add(sums, learners.of(self._row_folds[where]), where)
            return sums

        sums = self._gathered(share, classes * count)
        return finished(problems, weights, self._basis, sums.losses, sums.gradients, sums.curvatures)

    def _add(self, sums: _Sums, learner: _Learner, where: slice) -> None:
        """Adds a block's losses, gradients and curvatures to those of the problems that learn from it."""
        classes, count, dim = learner.coefficients.shape
        if not count:
            return
        block = self._rows.block(where)
        logits = (learner.coefficients.reshape(-1, dim) @ block.T).reshape(classes, count, -1)
        kept = self._row_folds[None, where] != learner.folds[:, None]
        weights = kept * self._row_weights[None, where]
        losses, curvatures = self._loss.residuals(
            logits, where, weights, curvature=sums.curvatures is not None
        )
        sums.losses[learner.places] += losses
        flat = logits.reshape(classes * count, -1)
        sums.gradients[:, learner.places] += (flat @ block).reshape(classes, count, dim)
        if sums.curvatures is not None and curvatures is not None:
            sums.curvatures[:, learner.places] += curvatures

    def logits(self, weights: Array, positions: NDArray[np.int64]) -> Array:
        """See `Pass`."""
        flat = self._basis.to_features(weights).reshape(-1, weights.shape[-1])
        found = np.empty((len(flat), len(positions)), weights.dtype)
        for start in range(0, len(positions), _MOST_ROWS):
            part = slice(start, start + _MOST_ROWS)
            found[:, part] = flat @ self._rows.at(positions[part]).T
        return found.reshape(*weights.shape[:2], -1)

    def _blocks(self, width: int) -> list[slice]:
        """Blocks of about one size, in each run of rows of one fold as many for each worker."""
        most = int(np.clip(_LOGITS // width, _LEAST_ROWS, _MOST_ROWS))
        blocks = []
        for begin, end in pairwise(self._runs):
            rounds = -(-(end - begin) // (most * self._workers))
            size = -(-(end - begin) // (rounds * self._workers))
            blocks += [slice(start, min(start + size, end)) for start in range(begin, end, size)]
        return blocks

    def _gathered(self, share: Callable[[Sequence[slice]], _Sums], width: int) -> _Sums:
        blocks = self._blocks(width)
        # The calling thread works, too: a fit never waits for threads that others keep busy.
        others = [
            self._executor.submit(share, blocks[worker :: self._workers])
            for worker in range(1, min(self._workers, len(blocks)))
        ]
        sums = share(blocks[:: self._workers])
        for other in others:
            sums.add(other.result())
        return sums


@dataclass(frozen=True, eq=False)
class _Sums:
    """What blocks add up to: losses (B,), gradients (K, B, P) of the features, curvatures (K, B) or None."""

    losses: NDArray[np.float64]
    gradients: Array
    curvatures: Array | None

    @classmethod
    def zeros(cls, weights: Array, curvature: bool) -> _Sums:
        shape = weights.shape[:2]
        return cls(np.zeros(shape[1]), np.zeros_like(weights), np.zeros(shape) if curvature else None)

    def add(self, other: _Sums) -> None:
        self.losses[:] += other.losses
        self.gradients[:] += other.gradients
        if self.curvatures is not None and other.curvatures is not None:
            self.curvatures[:] += other.curvatures


@dataclass(frozen=True, eq=False)
class _Learner:
    """The problems that learn from a block: places in the batch, folds, coefficients with intercepts."""

    places: slice | Array
    folds: NDArray[np.int64]
    coefficients: Array


class _Learners:
    """Of a batch of problems, those that learn from a block."""

    def __init__(self, problems: Problems, coefficients: Array) -> None:
        self._every = _Learner(slice(None), problems.folds, np.ascontiguousarray(coefficients))
        self._without = {
            int(fold): self._without_fold(int(fold)) for fold in np.unique(problems.folds) if fold >= 0
        }

    def of(self, row_folds: NDArray[np.int64]) -> _Learner:
        """The problems that learn from rows of these folds, which are sorted or few."""
        first = int(row_folds[0])
        if first == row_folds[-1] and (row_folds == first).all():
            return self._without.get(first, self._every)
        return self._every

    def _without_fold(self, fold: int) -> _Learner:
        every = self._every
        places = np.flatnonzero(every.folds != fold)
        return _Learner(
            places,
            every.folds[places],
            np.ascontiguousarray(every.coefficients[:, places]),
        )


def _runs(row_folds: NDArray[np.int64]) -> list[int]:
    """Where runs of rows of one fold begin, and the end; one run where the folds are not sorted."""
    changes = np.flatnonzero(np.diff(row_folds)) + 1
    if (np.diff(row_folds) < 0).any():
        changes = changes[:0]
    return [0, *changes.tolist(), len(row_folds)]


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
    gradients = basis.from_features(gradients)
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
