"""A path of penalties over folds: each penalty on all rows first, then its folds from there.

A fold's solution is near that of all rows under the same penalty, and its curvature nearer still: so the folds
start from the whole's weights with the whole's curvature pairs, and are done in a few passes. Along the path
every penalty starts from the one before it, with the pairs brought up to the new penalty.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.solver.basis import Basis
from trunkline_service.heads.solver.lbfgs import (
    FLOAT32,
    FLOAT64,
    Pair,
    Solution,
    Tolerance,
    minimise,
    unsolved,
)
from trunkline_service.heads.solver.losses import Loss
from trunkline_service.heads.solver.passes import NumpyPass, Pass
from trunkline_service.heads.solver.problems import NO_FOLD, Problems
from trunkline_service.heads.solver.rows import Rows
from trunkline_service.heads.solver.torch_pass import TorchPass

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Whole:
    """The solution of one C on all rows.

    Attributes:
        c: scikit-learn's C.
        solution: Of one problem.
        penalty: Its penalty on the mean loss.
    """

    c: float
    solution: Solution
    penalty: float


@dataclass(frozen=True, eq=False)
class Folded:
    """The folds of one C.

    Attributes:
        c: scikit-learn's C.
        solution: Of a problem a fold.
        offsets: (K, folds, P) its weights less those of the whole.
        logits: (N, K) of each row, from the problem that left its fold out; NaN for rows of no fold.
    """

    c: float
    solution: Solution
    offsets: Array
    logits: Array


class Sweep:
    """Solves one training set under many penalties."""

    def __init__(
        self,
        rows: Rows,
        loss: Loss,
        classes: int,
        row_weights: NDArray[np.float64],
        row_folds: NDArray[np.int64],
        *,
        device: str = "cpu",
        executor: ThreadPoolExecutor,
        workers: int,
        max_iterations: int,
        tolerance: Tolerance | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepares the basis.

        Args:
            rows: Transformed; those that are kept in memory are sorted by fold, in place.
            loss: Over K outputs.
            classes: K; 1 for two classes.
            row_weights: (N,)
            row_folds: (N,) -1 for rows that are never held out.
            device: ``cpu`` for passes in numpy, or a device of PyTorch's.
            executor: Of the passes.
            workers: Threads of the passes, with the calling one.
            max_iterations: Of each problem.
            tolerance: None for that of the rows' dtype.
            tick: Called before each pass; what it raises ends all.
        """
        # Where a block is of one fold, the problem that leaves this fold out can leave the block out.
        self._order = np.argsort(row_folds, kind="stable") if rows.kept else np.arange(len(rows))
        if rows.kept:
            rows.reorder(self._order)
            loss = loss.reordered(self._order)
            row_weights, row_folds = row_weights[self._order], row_folds[self._order]
        self.basis = Basis.of(rows, row_weights, classes)
        self._rows, self._classes = rows, classes
        self._row_weights, self._row_folds = row_weights, row_folds
        self.evaluate: Pass
        if device == "cpu":
            self.evaluate = NumpyPass(rows, self.basis, loss, row_weights, row_folds, executor, workers)
        else:
            self.evaluate = TorchPass(rows, self.basis, loss, row_weights, row_folds, device)
        exact = np.dtype(rows.dtype) == np.float64
        self._tolerance = tolerance or (FLOAT64 if exact else FLOAT32)
        self._most, self._tick = max_iterations, tick

    def whole(self, c: float, near: Whole | None = None) -> Whole:
        """All rows under one C, from the solution of a near C."""
        problems = self._problems([c], [NO_FOLD])
        penalty = float(problems.penalties[0])
        pairs: tuple[Pair, ...] = ()
        start = np.zeros((self._classes, 1, self._rows.dim + 1), self._rows.dtype)
        if near is not None:
            start = near.solution.weights
            pairs = tuple(pair.with_penalty(penalty - near.penalty) for pair in near.solution.pairs)
        solution = self._minimise(problems, start, pairs, None)
        return Whole(c, solution, penalty)

    def started(self, c: float, coefficients: Array, intercepts: Array) -> Whole:
        """Weights from elsewhere as a solution to start from.

        Args:
            c: That they were found under.
            coefficients: (K, D) of the rows' features.
            intercepts: (K,)
        """
        penalty = float(self._problems([c], [NO_FOLD]).penalties[0])
        weights = np.concatenate([self.basis.from_features(coefficients), intercepts[:, None]], axis=1)
        return Whole(c, unsolved(weights[:, None].astype(self._rows.dtype)), penalty)

    def folds(self, whole: Whole, near: Folded | None = None) -> Folded:
        """Every fold under the same C, from the solution of all rows and the folds' offsets of a near C."""
        folds = np.unique(self._row_folds[self._row_folds >= 0])
        problems = self._problems([whole.c], folds)
        offsets = 0 if near is None else near.offsets
        start = np.repeat(whole.solution.weights, len(folds), axis=1) + offsets
        solution = self._minimise(problems, start, whole.solution.pairs, whole.solution.curvatures)
        logits = np.full((len(self._rows), self._classes), np.nan, self._rows.dtype)
        for place, fold in enumerate(folds):
            held_out = np.flatnonzero(self._row_folds == fold)
            logits[self._order[held_out]] = self.evaluate.logits(
                solution.weights[:, place : place + 1], held_out
            )[:, 0].T
        return Folded(whole.c, solution, solution.weights - whole.solution.weights, logits)

    def features(self, solution: Solution, place: int = 0) -> tuple[Array, Array]:
        """Coefficients (K, dim) of standardised features and intercepts (K,) of a solution's problem."""
        weights = solution.weights[:, place]
        return self.basis.to_features(weights[:, :-1]), weights[:, -1]

    def _problems(self, cs: Sequence[float], folds: Sequence[int] | Array) -> Problems:
        return Problems.of(np.array(cs, np.float64), np.array(folds), self._row_weights, self._row_folds)

    def _minimise(
        self, problems: Problems, start: Array, pairs: tuple[Pair, ...], curvatures: Array | None
    ) -> Solution:
        return minimise(
            self.evaluate,
            problems,
            start,
            self.basis,
            self._tolerance,
            self._most,
            pairs,
            curvatures,
            self._tick,
        )


@contextmanager
def workers() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Threads for passes, with BLAS kept to one thread each."""
    from threadpoolctl import threadpool_limits

    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    with ThreadPoolExecutor(count, thread_name_prefix="fit") as executor, threadpool_limits(1, "blas"):
        yield executor, count
