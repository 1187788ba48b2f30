"""Which execution plan a model gets: the policy, without clocks, threads or files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trunkline_service.models.plan import ExecutionPlan

Measure = Callable[[ExecutionPlan], float | None]
"""Images per second with a plan; None where it can't be measured."""

# A moderate batch first: few wake-ups under load, and nobody waits for a long run to end.
_BATCHES = (4, 1, 16)
# After each round, a plan that is below this share of the best one is not tried again.
_ROUNDS = (0.7, 0.85, 0.0)
# Rounds on a busy machine differ by as much.
_MARGIN = 1.1


@dataclass(frozen=True)
class Choice:
    """What was chosen, and from what.

    Attributes:
        plan: The one to run with.
        rates: Images per second of every plan that was measured: the best of its rounds.
    """

    plan: ExecutionPlan
    rates: dict[ExecutionPlan, float]


def candidates(cores: int, max_batch: int) -> tuple[ExecutionPlan, ...]:
    """The plans worth trying on a CPU, those to be preferred first.

    One thread a run comes before many: the threads of one run wait for each other at every layer, and
    decoding on the same cores makes them wait longer.

    Args:
        cores: Cores to use.
        max_batch: The most images in one run.
    """
    half = [(2, cores // 2)] if cores >= 4 else []
    halves = [*half, (cores // 2, 2)] if cores >= 8 else half
    splits = dict.fromkeys([(1, cores), *halves, (cores, 1)])
    batches = dict.fromkeys(min(batch, max_batch) for batch in _BATCHES)
    return tuple(ExecutionPlan(threads, runs, batch) for threads, runs in splits for batch in batches)


def choose(plans: Sequence[ExecutionPlan], measure: Measure) -> Choice:
    """The fastest plan; one that stands behind another must be 10% faster than it.

    Successive halving: each plan is measured once, those that are near the best are measured again. The
    best of a plan's rounds counts, since whatever else the machine does can only slow a round down.

    Args:
        plans: At least one; those to be preferred first.
        measure: Called from this thread, plans of few images first.
    """
    rates: dict[ExecutionPlan, float] = {}
    alive = sorted(plans, key=lambda plan: plan.runs * plan.batch)
    for share in _ROUNDS:
        for plan in alive:
            if (rate := measure(plan)) is not None:
                rates[plan] = max(rate, rates.get(plan, 0.0))
        best = max(rates.values(), default=0.0)
        alive = [plan for plan in alive if plan in rates and rates[plan] >= share * best]
        if len(alive) < 2:
            break
    near = (plan for plan in plans if plan in alive and rates[plan] * _MARGIN >= best)
    return Choice(next(near, plans[0]), rates)
