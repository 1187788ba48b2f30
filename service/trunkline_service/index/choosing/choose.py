"""The index of a collection: built, measured, and tuned to the wanted recall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index.card import Level, Setting
from trunkline_service.index.choosing.choice import Choice
from trunkline_service.index.choosing.measuring import true_neighbours
from trunkline_service.index.choosing.planning import plan
from trunkline_service.index.choosing.trial import Trial
from trunkline_service.index.kinds.building import Progress
from trunkline_service.index.metric import LEAST_VALUE, MOST_VALUE
from trunkline_service.index.options import IndexOptions

# Rows that tell how much more effort searches of more neighbours than were wished need.
_LEVEL_QUERIES = 200
_LOOKED_AT = 65_536


def choose(
    vectors: NDArray[np.float32],
    held_out: NDArray[np.float32],
    metric: str,
    options: IndexOptions,
    *,
    flat_rows: int,
    threads: int,
    clock: Callable[[], float],
    progress: Progress,
    cancelled: Callable[[], bool],
    version: int = 0,
) -> Choice:
    """Builds what reaches the wanted recall; ``flat``, with the reason, where nothing does.

    ``auto`` takes the first kind that reaches it, on the lower end of its interval, with well above exact
    search's throughput, or else the fastest. A kind that was asked for may be slower, and where the queries
    are too few for the interval to reach the target at all, it has to find everything.

    Args:
        vectors: float32 (N, dim), prepared; may be memory-mapped.
        held_out: float32 (Q, dim), prepared: queries that are no rows of ``vectors``.
        metric: Of the vectors.
        options: What is wished; not kind ``lance``.
        flat_rows: See `planning.plan`.
        threads: The most to use.
        clock: Seconds.
        progress: Told a phase and the share of it that is done, 0..1.
        cancelled: Asked often; true ends it.
        version: The collection's, for the recall.

    Raises:
        Cancelled: It was cancelled.
    """
    planned = plan(len(vectors), vectors.shape[1], options, flat_rows)
    if not planned.candidates:
        return _flat(planned.reason)
    if not len(held_out):
        return _flat("there are no rows to measure recall with")
    if metric != "cosine" and not LEAST_VALUE <= _largest(vectors) <= MOST_VALUE:
        held = f"{LEAST_VALUE:g} to {MOST_VALUE:g}"
        return _flat(f"single precision can't tell apart products of values beyond {held}")
    truth = true_neighbours(
        held_out,
        vectors,
        options.k,
        metric,
        threads=threads,
        clock=clock,
        progress=lambda done: progress("comparing exactly", done),
        cancelled=cancelled,
    )
    trial = Trial(vectors, held_out, metric, options, truth, threads, clock, progress, cancelled, version)
    for candidate in planned.candidates:
        trial.run(candidate)
        if trial.settled:
            break
    if trial.best is not None:
        return _with_levels(trial, trial.best, held_out[:_LEVEL_QUERIES])
    return _flat(
        f"{'; '.join(trial.failures)}; {options.recall:g} was wanted, so every row is compared",
        trial.settings,
    )


def _flat(reason: str, settings: tuple[Setting, ...] = ()) -> Choice:
    return Choice("flat", None, 0, None, settings, reason, {})


def _with_levels(trial: Trial, choice: Choice, queries: NDArray[np.float32]) -> Choice:
    """The efforts for more neighbours than were wished, as far as they reach the wanted recall."""
    assert choice.approximate is not None
    assert choice.recall is not None
    levels = [Level(choice.effort, choice.recall)]
    more = trial.levels
    if not more:
        return replace(choice, levels=tuple(levels))
    truth = trial.neighbours(queries, more[-1])
    for k in more:
        deeper = replace(trial, truth=truth.of(k))
        tuned = deeper.tuned(choice.approximate, first=levels[-1].effort)
        if tuned.effort is None:
            break
        levels.append(Level(tuned.effort, tuned.best.recall))
    return replace(choice, levels=tuple(levels))


def _largest(vectors: NDArray[np.float32]) -> float:
    """The largest absolute value."""
    blocks = (vectors[start : start + _LOOKED_AT] for start in range(0, len(vectors), _LOOKED_AT))
    return max(max(float(block.max()), -float(block.min())) for block in blocks)
