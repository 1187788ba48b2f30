"""L-BFGS over many problems in step: one pass serves all that are not done yet.

Source: Nocedal & Wright 2006, "Numerical Optimization", algorithms 7.4 and 7.5; the initial inverse Hessian is
the preconditioner of `basis`, scaled as in equation 7.20. Problems that are done leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.solver.basis import Basis, Preconditioner
from trunkline_service.heads.solver.passes import Pass, Values, inner
from trunkline_service.heads.solver.problems import Problems

Array = NDArray[Any]

_DECREASE = 1e-4
_HALVINGS = 12


@dataclass(frozen=True)
class Tolerance:
    """When a problem is solved: either is enough.

    Attributes:
        decrement: What another step is expected to take off the loss, as a share of the loss.
        gradient: Largest absolute entry of the mean loss's gradient, as a share of that at zero weights.
        noise: Relative rounding error of a loss, which a step may seem to add.
        floor: Absolute one, of losses next to nothing.
    """

    decrement: float
    gradient: float
    noise: float
    floor: float


FLOAT32 = Tolerance(decrement=2e-6, gradient=1e-5, noise=1e-6, floor=1e-9)
FLOAT64 = Tolerance(decrement=1e-20, gradient=1e-12, noise=1e-14, floor=1e-17)


@dataclass(frozen=True, eq=False)
class Pair:
    """A step and the change of the gradient along it: what L-BFGS knows of the curvature.

    Attributes:
        step: (K, B, P).
        change: (K, B, P).
        weight: (B,) one over their inner product; 0 for a problem that learned nothing from it.
    """

    step: Array
    change: Array
    weight: NDArray[np.float64]

    def at(self, chosen: Array) -> Pair:
        """Of the chosen problems."""
        return Pair(self.step[:, chosen], self.change[:, chosen], self.weight[chosen])

    def with_penalty(self, more: NDArray[np.float64]) -> Pair:
        """The pair of the same losses under penalties that are larger by ``more`` (B,)."""
        change = self.change.copy()
        change[..., :-1] += more.astype(change.dtype)[:, None] * self.step[..., :-1]
        return _pair(self.step, change, self.weight > 0)


@dataclass(frozen=True, eq=False)
class Solution:
    """Weights of B problems, and how well they solve them.

    Attributes:
        weights: (K, B, P) in the coordinates of the basis, the intercepts last.
        losses: (B,) float64.
        gradient_norms: (B,) largest absolute entry of the gradient.
        iterations: (B,) int64 steps taken.
        converged: (B,) bool.
        pairs: The newest of each problem, the newest last.
    """

    weights: Array
    losses: NDArray[np.float64]
    gradient_norms: NDArray[np.float64]
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]
    pairs: tuple[Pair, ...]


def unsolved(weights: Array) -> Solution:
    """Weights (K, 1, P) of which nothing is known but that they may be near a solution."""
    nothing = np.full(1, np.nan)
    return Solution(weights, nothing, nothing, np.zeros(1, np.int64), np.zeros(1, bool), ())


def minimise(
    evaluate: Pass,
    problems: Problems,
    start: Array,
    basis: Basis,
    tolerance: Tolerance,
    most: int,
    limits: NDArray[np.float64],
    memory: int,
    pairs: tuple[Pair, ...] = (),
    tick: Callable[[], None] = lambda: None,
) -> Solution:
    """Minimises all problems from ``start``.

    Args:
        evaluate: Gives losses and gradients.
        problems: B of them.
        start: (K, B, P).
        basis: Whose spectrum the initial inverse Hessian is made of.
        tolerance: When a problem is solved.
        most: Iterations.
        limits: (B,) what the gradient's entries are to stay below.
        memory: Pairs that are kept.
        pairs: Of the same problems under near penalties.
        tick: Called before each pass; what it raises ends all.
    """
    tick()
    first = evaluate(problems, start, curvature=True)
    assert first.curvatures is not None, "a pass that was asked for curvatures gives them"
    inverse = basis.preconditioner(problems.penalties, first.curvatures, start.dtype)
    state = _State(problems, start, first, inverse, limits, memory, pairs)
    done = _Done(start, len(problems))
    for iteration in range(most + 1):
        direction = state.direction()
        slope = inner(state.values.gradients, direction)
        norms = np.abs(state.values.gradients).max(axis=(0, 2))
        solved = (-slope / 2 <= tolerance.decrement * state.values.losses) | (norms <= state.limits)
        if iteration == most:
            done.take(state, np.ones(len(solved), bool), solved, norms, iteration)
            break
        if solved.any():
            done.take(state, solved, solved, norms, iteration)
            if solved.all():
                break
            state, direction, slope = state.at(~solved), direction[:, ~solved], slope[~solved]
            norms = norms[~solved]
        stuck = state.step(evaluate, direction, slope, tolerance, tick)
        if stuck.any():
            # No shorter step goes down either: rounding, or a loss that is not finite.
            done.take(state, stuck, np.zeros(len(stuck), bool), norms, iteration)
            if stuck.all():
                break
            state = state.at(~stuck)
    return done.solution()


class _Done:
    """Collects problems as they end, at their places in the batch that it began with."""

    def __init__(self, start: Array, count: int) -> None:
        self.weights = start.copy()
        self.losses = np.full(count, np.nan)
        self.norms = np.full(count, np.nan)
        self.iterations = np.zeros(count, np.int64)
        self.converged = np.zeros(count, bool)
        self._pairs: dict[int, list[Pair]] = {}

    def take(self, state: _State, chosen: Array, solved: Array, norms: Array, iteration: int) -> None:
        places = state.places[chosen]
        self.weights[:, places] = state.weights[:, chosen]
        self.losses[places] = state.values.losses[chosen]
        self.norms[places] = norms[chosen]
        self.iterations[places] = iteration
        self.converged[places] = solved[chosen]
        for position, place in zip(np.flatnonzero(chosen), places, strict=True):
            one = np.array([position])
            self._pairs[int(place)] = [pair.at(one) for pair in reversed(state.pairs)]

    def solution(self) -> Solution:
        return Solution(
            self.weights, self.losses, self.norms, self.iterations, self.converged, self._aligned()
        )

    def _aligned(self) -> tuple[Pair, ...]:
        """The problems' pairs side by side, counted from the newest; where one has fewer, it knows nothing."""
        most = max(map(len, self._pairs.values()))
        nothing = np.zeros((len(self.weights), 1, self.weights.shape[2]), self.weights.dtype)
        unknown = Pair(nothing, nothing, np.zeros(1))
        aligned = []
        for back in reversed(range(most)):
            row = [pairs[back] if back < len(pairs) else unknown for _, pairs in sorted(self._pairs.items())]
            aligned.append(
                Pair(
                    np.concatenate([pair.step for pair in row], axis=1),
                    np.concatenate([pair.change for pair in row], axis=1),
                    np.concatenate([pair.weight for pair in row]),
                )
            )
        return tuple(aligned)


class _State:
    """The problems that are not done yet."""

    def __init__(
        self,
        problems: Problems,
        weights: Array,
        values: Values,
        inverse: Preconditioner,
        limits: NDArray[np.float64],
        memory: int,
        pairs: tuple[Pair, ...] | list[Pair],
        places: Array | None = None,
    ) -> None:
        self.problems, self.weights, self.values, self.inverse = problems, weights, values, inverse
        self.limits, self._memory = limits, memory
        self.pairs = list(pairs)
        self.places = np.arange(len(problems)) if places is None else places

    def at(self, chosen: Array) -> _State:
        values = Values(self.values.losses[chosen], self.values.gradients[:, chosen], None)
        return _State(
            self.problems.at(chosen),
            self.weights[:, chosen],
            values,
            self.inverse.at(chosen),
            self.limits[chosen],
            self._memory,
            [pair.at(chosen) for pair in self.pairs],
            self.places[chosen],
        )

    def direction(self) -> Array:
        """The two-loop recursion: minus the inverse Hessian's estimate times the gradient."""
        ahead = self.values.gradients.copy()
        spare = np.empty_like(ahead)
        factors = []
        for pair in reversed(self.pairs):
            factor = _column(pair.weight * inner(pair.step, ahead), ahead)
            ahead -= np.multiply(factor, pair.change, out=spare)
            factors.append(factor)
        ahead = self.inverse(ahead)
        if self.pairs:
            ahead *= _column(self._scale(self.pairs[-1]), ahead)
        for pair, factor in zip(self.pairs, reversed(factors), strict=True):
            ahead += np.multiply(
                factor - _column(pair.weight * inner(pair.change, ahead), ahead), pair.step, out=spare
            )
        return np.negative(ahead, out=ahead)

    def _scale(self, pair: Pair) -> NDArray[np.float64]:
        """How much the preconditioner over- or underestimates the curvature along the newest pair."""
        along = inner(pair.change, self.inverse(pair.change))
        known = (pair.weight > 0) & (along > 0)
        scale: NDArray[np.float64] = np.where(
            known, 1 / np.where(known, pair.weight * along, 1), np.ones(len(along))
        )
        return scale

    def step(
        self,
        evaluate: Pass,
        direction: Array,
        slope: NDArray[np.float64],
        tolerance: Tolerance,
        tick: Callable[[], None],
    ) -> NDArray[np.bool_]:
        """Moves every problem down its direction; tells which found no way down."""
        lengths = np.ones(len(slope))
        weights = self.weights.copy()
        losses, gradients = self.values.losses.copy(), self.values.gradients.copy()
        waiting = np.flatnonzero(slope < 0)
        for _ in range(_HALVINGS):
            if not len(waiting):
                break
            tick()
            trial = self.weights[:, waiting] + _column(lengths[waiting], direction) * direction[:, waiting]
            found = evaluate(self.problems.at(waiting), trial)
            allowed = self.values.losses[waiting] + _DECREASE * lengths[waiting] * slope[waiting]
            rounding = tolerance.noise * self.values.losses[waiting] + tolerance.floor
            good = found.losses <= allowed + rounding
            taken = waiting[good]
            weights[:, taken], gradients[:, taken] = trial[:, good], found.gradients[:, good]
            losses[taken] = found.losses[good]
            bad = waiting[~good]
            lengths[bad] *= _shorter(found.losses[~good] - self.values.losses[bad], lengths[bad] * slope[bad])
            waiting = bad
        stuck = np.isin(np.arange(len(slope)), waiting) | (slope >= 0)
        step, change = weights - self.weights, gradients - self.values.gradients
        self.pairs.append(_pair(step, change, np.ones(len(slope), bool)))
        del self.pairs[: -self._memory]
        self.weights, self.values = weights, Values(losses, gradients, None)
        return stuck


def _shorter(rise: Array, slope: Array) -> NDArray[np.float64]:
    """The factor to the lowest point of the parabola through what is known, kept in [0.1, 0.5]."""
    with np.errstate(invalid="ignore", over="ignore"):
        lowest = -slope / (2 * (rise - slope))
    factor: NDArray[np.float64] = np.clip(np.where(np.isfinite(lowest), lowest, 0.1), 0.1, 0.5)
    return factor


def _pair(step: Array, change: Array, usable: NDArray[np.bool_]) -> Pair:
    product = inner(step, change)
    sizes = np.sqrt(inner(step, step) * inner(change, change))
    # Only where the gradient clearly rises along the step does the pair say something of the curvature.
    known = usable & (product > 1e-8 * sizes)
    return Pair(step, change, np.where(known, 1 / np.where(known, product, 1), 0.0))


def _column(values: NDArray[np.float64], like: Array) -> Array:
    """(B,) as (1, B, 1) of another array's dtype."""
    return values.astype(like.dtype)[None, :, None]
