"""Choosing the strength of a penalty: a path over a log grid, then closer looks around the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.solver.sweep import Solved, Sweep

# scikit-learn's C: from almost nothing learned to almost no penalty. Most heads settle between 1e-4 and 1.
COARSE = tuple(10.0**power for power in range(-6, 4))
# Each closer look tries both sides of the best, at these factors.
_CLOSER = (10**0.5, 10**0.25)
# The loss along the path has one valley, up to noise: this many times worse than its floor, it is behind.
_BEHIND = 1.02
_BEHIND_FOR = 2


@dataclass(frozen=True, eq=False)
class Chosen:
    """The best C and what came of it.

    Attributes:
        whole: The solution on all rows.
        logits: (N, K) held-out logits.
        tried: (C, held-out loss), by rising C.
        runs: Problems that were solved.
        failures: Those that stopped before their tolerance.
    """

    whole: Solved
    logits: NDArray[Any]
    tried: tuple[tuple[float, float], ...]
    runs: int
    failures: int


class PenaltySearch:
    """Looks for the C with the least held-out loss; among equals, the stronger penalty."""

    def __init__(
        self,
        sweep: Sweep,
        score: Callable[[NDArray[Any]], float],
        report: Callable[[float], None],
        begin: Solved | None = None,
    ) -> None:
        """Prepares.

        Args:
            sweep: Solves.
            score: The loss of (N, K) held-out logits.
            report: Told the share done, after each C.
            begin: Where the first solution starts.
        """
        self._sweep, self._score, self._report = sweep, score, report
        self._begin = begin
        # The folds' solutions of the nearest values that were tried, as many as there is room for.
        self._solved: dict[float, Solved] = {}
        self._losses: dict[float, float] = {}
        self._best: tuple[float, NDArray[Any]] | None = None
        self._runs = self._failures = 0

    def over(self, grid: Sequence[float]) -> Chosen:
        """Tries every C of a given grid."""
        for done, c in enumerate(sorted(grid), start=1):
            self._try(c)
            self._report(done / len(grid))
        return self._chosen()

    def coarse_to_fine(self) -> Chosen:
        """Tries the coarse grid up to where the loss has clearly turned, then around the best."""
        total, behind = len(COARSE) + 2 * len(_CLOSER), 0
        for c in COARSE:
            loss = self._try(c)
            self._report(len(self._losses) / total)
            behind = behind + 1 if loss > _BEHIND * min(self._losses.values()) else 0
            # On the way down to the valley losses fall, so this counts only what lies behind it.
            if behind == _BEHIND_FOR:
                break
        for factor in _CLOSER:
            best = self._best_c()
            for c in (best / factor, best * factor):
                self._try(c)
            self._report(min(1.0, len(self._losses) / total))
        self._report(1.0)
        return self._chosen()

    def _try(self, c: float) -> float:
        near = min(self._solved, key=lambda other: abs(np.log(other / c)), default=None)
        folds = self._sweep.folds(c, None if near is None else self._solved[near])
        self._count(folds)
        logits = self._sweep.held_out(folds)
        loss = self._losses[c] = self._score(logits)
        self._solved[c] = folds
        if self._best_c() == c:
            self._best = (c, logits)
        for other in sorted(self._solved, key=lambda other: abs(np.log(other / c)))[self._sweep.room :]:
            del self._solved[other]
        return loss

    def _count(self, solved: Solved) -> None:
        self._runs += len(solved.solution.converged)
        self._failures += int((~solved.solution.converged).sum())

    def _best_c(self) -> float:
        return min(sorted(self._losses), key=lambda c: self._losses[c])

    def _chosen(self) -> Chosen:
        assert self._best is not None, "a grid has at least one value"
        c, logits = self._best
        whole = self._begin
        if whole is None:
            # On all rows, along the values up to the best: a path costs less than a cold start.
            for step in sorted(self._losses):
                whole = self._sweep.whole(step, whole)
                if step == c:
                    break
        else:
            whole = self._sweep.whole(c, whole)
        assert whole is not None
        self._count(whole)
        return Chosen(whole, logits, tuple(sorted(self._losses.items())), self._runs, self._failures)
