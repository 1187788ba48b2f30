"""The index of a collection: built, measured, and tuned to the wanted recall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled
from trunkline_service.index.card import Level, Recall, Setting
from trunkline_service.index.choosing.measuring import (
    Measured,
    Truth,
    lower_end,
    measured,
    true_neighbours,
)
from trunkline_service.index.choosing.planning import Candidate, plan
from trunkline_service.index.choosing.tuning import Tuned, tune
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.kinds.building import Progress, build
from trunkline_service.index.kinds.ivf import Ivf
from trunkline_service.index.options import IndexKind, IndexOptions

# Times exact search's throughput, from which on no other kind is tried.
_WELL_ABOVE = 10.0
# How many times k rows product codes may propose: the fewest that reach the recall.
_K_FACTORS = (8, 32, 128)
# Searches of more neighbours than were wished need more effort; so many rows tell how much.
_LEVELS = (100, 1000)
_LEVEL_QUERIES = 200
# Of the rows: what asks for more of them compares all.
_MOST_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Choice:
    """What serves a collection best.

    Attributes:
        kind: ``flat`` where exact search does.
        approximate: The structure; None for ``flat``.
        effort: For its searches; 0 for ``flat``.
        recall: What that gives; None for ``flat``.
        settings: All that were measured of this kind; for ``flat``, of the last one that was tried.
        reason: Why; a clause without a full stop.
        parameters: Of the structure.
        levels: Efforts by the number of neighbours; see `IndexCard.levels`.
    """

    kind: IndexKind
    approximate: Approximate | None
    effort: int
    recall: Recall | None
    settings: tuple[Setting, ...]
    reason: str
    parameters: dict[str, int]
    levels: tuple[Level, ...] = ()


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
    trial = _Trial(vectors, metric, options, truth, threads, clock, progress, cancelled, version)
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


def _with_levels(trial: _Trial, choice: Choice, queries: NDArray[np.float32]) -> Choice:
    """The efforts for more neighbours than were wished, as far as they reach the wanted recall."""
    assert choice.approximate is not None
    assert choice.recall is not None
    levels = [Level(choice.effort, choice.recall)]
    more = [k for k in _LEVELS if trial.options.k < k <= _MOST_SHARE * len(trial.vectors)]
    if not more:
        return replace(choice, levels=tuple(levels))
    truth = true_neighbours(
        queries,
        trial.vectors,
        more[-1],
        trial.metric,
        threads=trial.threads,
        clock=trial.clock,
        cancelled=trial.cancelled,
    )
    for k in more:
        deeper = replace(trial, truth=truth.of(k))
        tuned = deeper.tuned(choice.approximate, first=levels[-1].effort)
        if tuned.effort is None:
            break
        levels.append(Level(tuned.effort, tuned.best.recall))
    return replace(choice, levels=tuple(levels))


@dataclass
class _Trial:
    """Candidates that are tried one after another."""

    vectors: NDArray[np.float32]
    metric: str
    options: IndexOptions
    truth: Truth
    threads: int
    clock: Callable[[], float]
    progress: Progress
    cancelled: Callable[[], bool]
    version: int
    best: Choice | None = None
    failures: list[str] = field(default_factory=list)
    settings: tuple[Setting, ...] = ()
    _rate: float = 0.0

    @property
    def settled(self) -> bool:
        """No other kind is worth its build."""
        return self._rate >= _WELL_ABOVE * self.truth.queries_per_s

    def run(self, candidate: Candidate) -> None:
        """Builds and tunes it, and keeps it if it is the fastest that reaches the target."""
        kind = candidate.kind
        approximate = build(
            kind,
            self.vectors,
            metric=self.metric,
            parameters=candidate.parameters,
            progress=lambda phase, done: self.progress(f"{kind}: {phase}", done),
            cancelled=self.cancelled,
            threads=self.threads,
        )
        self.progress(f"{kind}: tuning", 0.0)
        approximate, tuned = self._tuned(approximate)
        self.progress(f"{kind}: tuning", 1.0)
        rate, recall = tuned.best.queries_per_s, tuned.best.recall
        times = rate / self.truth.queries_per_s
        self.settings = tuned.settings
        if tuned.effort is None:
            slow = f" at {_times(times)} the throughput of exact search"
            self.failures.append(f"{kind} finds {recall.measured:.4f} of the {recall.k} nearest{slow}")
        elif self.best is None or rate > self._rate:
            self._rate = rate
            reason = (
                f"{kind} finds {recall.measured:.4f} of the {recall.k} nearest, at {_times(times)} the "
                "throughput of exact search"
            )
            self.best = Choice(
                kind, approximate, tuned.effort, recall, tuned.settings, reason, approximate.parameters
            )

    def _tuned(self, approximate: Approximate) -> tuple[Approximate, Tuned]:
        if approximate.kind != "ivf_pq" or not isinstance(approximate, Ivf):
            return approximate, self.tuned(approximate)
        for k_factor in _K_FACTORS:
            wider = approximate.with_k_factor(k_factor)
            tuned = self.tuned(wider)
            if tuned.effort is not None:
                break
        return wider, tuned

    def tuned(self, approximate: Approximate, first: int = 1) -> Tuned:
        """The least effort, from ``first`` on, that reaches the wanted recall of this truth."""

        def measure(effort: int) -> Measured:
            if self.cancelled():
                raise Cancelled("the build of the index was cancelled; nothing was kept")
            return measured(
                approximate,
                self.truth,
                effort,
                threads=self.threads,
                clock=self.clock,
                version=self.version,
                cancelled=self.cancelled,
            )

        automatic = self.options.kind == "auto"
        wanted = self.options.recall
        if not automatic:
            wanted = min(wanted, lower_end(np.ones(len(self.truth.queries)), self.truth.k))
        graph = approximate.kind == "hnsw"
        return tune(
            measure,
            lambda one: one.recall.low >= wanted,
            first=max(first, self.truth.k) if graph else first,
            most=len(approximate) if graph else approximate.parameters["nlist"],
            slowest=self.truth.queries_per_s if automatic else 0.0,
        )


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= _WELL_ABOVE else f"{ratio:.1f} times"
