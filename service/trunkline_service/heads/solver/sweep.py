"""A path of penalties, on all rows and on all folds.

Along the path every problem starts from its own solution under the penalty before, with its curvature pairs
brought up to the new one. Folds never start from the solution of all rows, near as it is: where there are few
rows, a fold that is stopped by a tolerance would still remember the labels that it must not have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
_KEPT_BYTES = 1 << 29
# Pairs that L-BFGS keeps. Twenty save a fifth of the passes that ten take, and cost as much as a pass over 6,000 rows.
_MEMORY, _MORE_MEMORY, _LEAST_MEMORY = 10, 20, 3
_MANY_ROWS = 8_000
# Of all pairs of all problems: with thousands of classes there is room for fewer.
_PAIRS_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class Solved:
    """The solutions of one C, on all rows or on every fold.

    Attributes:
        c: scikit-learn's C.
        problems: That were solved.
        solution: Of them.
    """

    c: float
    problems: Problems
    solution: Solution


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
        self._folds = np.unique(row_folds[row_folds >= 0])
        pair = 2 * self._solution_bytes
        wanted = _MORE_MEMORY if len(rows) >= _MANY_ROWS else _MEMORY
        self._memory = max(_LEAST_MEMORY, min(wanted, _PAIRS_BYTES // pair))
        self._known_limits: dict[tuple[int, ...], NDArray[np.float64]] = {}

    def whole(self, c: float, near: Solved | None = None) -> Solved:
        """All rows under one C, from the solution of a near C."""
        return self._solved(c, np.array([NO_FOLD]), near)

    def folds(self, c: float, near: Solved | None = None) -> Solved:
        """Every fold's rest under one C, from the solutions of a near C."""
        return self._solved(c, self._folds, near)

    def started(self, c: float, coefficients: Array, intercepts: Array) -> Solved:
        """Weights of all rows from elsewhere, to start from.

        Args:
            c: That they were found under.
            coefficients: (K, D) of the rows' features.
            intercepts: (K,)
        """
        weights = self.basis.from_features(np.concatenate([coefficients, intercepts[:, None]], axis=1))
        problems = self._problems(c, np.array([NO_FOLD]))
        return Solved(c, problems, unsolved(weights[:, None].astype(self._rows.dtype)))

    def held_out(self, folds: Solved) -> Array:
        """(N, K) logits of each row, from the problem that left its fold out; NaN for rows of no fold."""
        logits = np.full((len(self._rows), self._classes), np.nan, self._rows.dtype)
        for place, fold in enumerate(self._folds):
            left_out = np.flatnonzero(self._row_folds == fold)
            found = self.evaluate.logits(folds.solution.weights[:, place : place + 1], left_out)
            logits[self._order[left_out]] = found[:, 0].T
        return logits

    @property
    def room(self) -> int:
        """How many solutions of all folds, with their pairs, may be kept at a time; at least one."""
        return max(1, _KEPT_BYTES // (self._solution_bytes * (2 * self._memory + 1)))

    @property
    def _solution_bytes(self) -> int:
        problem = self._classes * (self._rows.dim + 1) * np.dtype(self._rows.dtype).itemsize
        return int(problem * max(1, len(self._folds)))

    def features(self, solution: Solution, place: int = 0) -> tuple[Array, Array]:
        """Coefficients (K, dim) of standardised features and intercepts (K,) of a solution's problem."""
        weights = self.basis.to_features(solution.weights[:, place])
        return weights[:, :-1], weights[:, -1]

    def _problems(self, c: float, folds: NDArray[np.int64]) -> Problems:
        return Problems.of(np.array([c]), folds, self._row_weights, self._row_folds)

    def _solved(self, c: float, folds: NDArray[np.int64], near: Solved | None) -> Solved:
        problems = self._problems(c, folds)
        pairs: tuple[Pair, ...] = ()
        start = np.zeros((self._classes, len(folds), self._rows.dim + 1), self._rows.dtype)
        if near is not None:
            start = near.solution.weights
            more = problems.penalties - near.problems.penalties
            pairs = tuple(pair.with_penalty(more) for pair in near.solution.pairs)
        solution = minimise(
            self.evaluate,
            problems,
            start,
            self.basis,
            self._tolerance,
            self._most,
            self._limits(problems),
            self._memory,
            pairs,
            self._tick,
        )
        return Solved(c, problems, solution)

    def _limits(self, problems: Problems) -> NDArray[np.float64]:
        """(B,) the tolerated gradient: a share of that at zero weights, so that it knows no units."""
        key = tuple(problems.folds.tolist())
        if key not in self._known_limits:
            zero = np.zeros((self._classes, len(problems), self._rows.dim + 1), self._rows.dtype)
            gradients = self.evaluate(problems, zero).gradients[..., :-1]
            self._known_limits[key] = self._tolerance.gradient * np.abs(gradients).max(axis=(0, 2))
        return self._known_limits[key]
