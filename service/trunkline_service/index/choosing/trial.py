"""Candidates that are built, measured and tuned, one after another."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled
from trunkline_service.index.card import Setting
from trunkline_service.index.choosing.choice import Choice
from trunkline_service.index.choosing.measuring import Measured, Truth, lower_end, measured, true_neighbours
from trunkline_service.index.choosing.planning import Candidate
from trunkline_service.index.choosing.tuning import Tuned, tune
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.kinds.building import Progress, build
from trunkline_service.index.kinds.ivf import LEFT_PERMILLE, Ivf
from trunkline_service.index.metric import prepared
from trunkline_service.index.options import IndexOptions

# Times exact search's throughput, from which on no other kind is tried.
_WELL_ABOVE = 10.0
# How many times k rows product codes may propose: the fewest that reach the recall.
_K_FACTORS = (8, 32, 128)
# Searches of more neighbours than were wished need more effort.
_LEVELS = (100, 1000)
# What a query may leave in lists that it does not look into, in thousandths of k, from fast to sure.
_LEFT = (10_000, 3000, 1000, 300, 100, 30, 10, 3)
# Queries between two rows may miss so many times as much.
_HARDER = 5
_MORE_TO_BEGIN_WITH, _CLEARLY = (2, 4), 1.05
_BETWEEN = 200
_GIVE = 0.002
# Of the rows: what asks for more of them compares all.
_MOST_SHARE = 0.1


@dataclass
class Trial:
    """Candidates that are tried one after another."""

    vectors: NDArray[np.float32]
    held_out: NDArray[np.float32]
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
    _between: dict[int, Truth] = field(default_factory=dict)

    @property
    def levels(self) -> list[int]:
        """The numbers of neighbours, beyond the wished one, that are tuned for."""
        return [k for k in _LEVELS if self.options.k < k <= _MOST_SHARE * len(self.vectors)]

    def neighbours(self, queries: NDArray[np.float32], k: int) -> Truth:
        """The exact answers to other queries."""
        return true_neighbours(
            queries,
            self.vectors,
            k,
            self.metric,
            threads=self.threads,
            clock=self.clock,
            cancelled=self.cancelled,
        )

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
            between = f", {tuned.best.between:.4f} between two rows" if tuned.best.between else ""
            self.failures.append(
                f"{kind} finds {recall.measured:.4f} of the {recall.k} nearest{between}{slow}"
            )
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
        if not isinstance(approximate, Ivf):
            return approximate, self.tuned(approximate)
        factors = _K_FACTORS if approximate.kind == "ivf_pq" else (approximate.parameters.get("k_factor", 1),)
        for k_factor, left in itertools.product(factors, (LEFT_PERMILLE, _LEFT[-1])):
            structure = approximate.with_k_factor(k_factor).with_left(left, self.options.k + 1)
            tuned = self.tuned(structure)
            if tuned.effort is not None:
                further = self._looking_further(structure, tuned.effort)
                again = self.tuned(further, tuned.effort)
                return (
                    (structure, tuned) if again.effort is None else (further, self._fastest(further, again))
                )
        return structure, tuned

    def _looking_further(self, structure: Ivf, effort: int) -> Ivf:
        """The structure with as much left in lists that are not looked into as hard queries allow.

        How many better rows a list may hold is told from how its rows lie on the whole, and that is far too many
        where they lie on a surface of few dimensions; queries between two rows, whose neighbours are scattered over
        many lists, show what it is worth. They may miss some times as much as queries like the rows.
        """
        shallow = self.options.k
        structure = self._leaving(shallow, effort, partial(structure.with_left, up_to_k=shallow + 1))
        return self._leaving(self.levels[0], effort, structure.with_left_deep) if self.levels else structure

    def _leaving(self, k: int, effort: int, with_left: Callable[[int], Ivf]) -> Ivf:
        """The structure that leaves as much as searches of k neighbours allow."""
        sure = with_left(_LEFT[-1])
        if not len(self.held_out):
            return sure
        truth = self.between(k)
        # Of codes, looking into all lists may find less than was wanted.
        least = min(self.hard, self._share(sure, truth, len(self.vectors)) - _GIVE)
        structures = map(with_left, _LEFT)
        return next((one for one in structures if self._share(one, truth, effort) >= least), sure)

    def _fastest(self, structure: Ivf, tuned: Tuned) -> Tuned:
        """The effort itself or a few times as much: who begins with more lists looks further less often."""
        assert tuned.effort is not None
        settings, best = list(tuned.settings), tuned
        for times in _MORE_TO_BEGIN_WITH:
            effort = min(tuned.effort * times, structure.parameters["nlist"])
            found = self.measured(structure, effort)
            settings.append(Setting(effort, found.recall.measured, found.queries_per_s))
            if (
                found.queries_per_s > _CLEARLY * best.best.queries_per_s
                and found.recall.low >= tuned.best.recall.low
            ):
                best = replace(tuned, effort=effort, best=found)
        unique = {setting.effort: setting for setting in settings}
        return replace(best, settings=tuple(unique[effort] for effort in sorted(unique)))

    @property
    def hard(self) -> float:
        """The recall that is wanted of queries between two rows."""
        return max(0.0, 1 - _HARDER * (1 - self.options.recall))

    def between(self, k: int) -> Truth:
        """The exact answers to queries halfway between two of the rows that were held out."""
        if k not in self._between:
            self._between[k] = self.neighbours(middles(self.held_out, self.metric), k)
        return self._between[k]

    def measured(self, structure: Approximate, effort: int) -> Measured:
        """What an effort gives, of the queries that were held out."""
        return measured(
            structure,
            self.truth,
            effort,
            threads=self.threads,
            clock=self.clock,
            version=self.version,
            cancelled=self.cancelled,
        )

    def _share(self, structure: Approximate, truth: Truth, effort: int) -> float:
        found = measured(
            structure, truth, effort, threads=self.threads, clock=self.clock, cancelled=self.cancelled
        )
        return found.recall.measured

    def tuned(self, approximate: Approximate, first: int = 1) -> Tuned:
        """The least effort, from ``first`` on, that reaches the wanted recall of this truth."""

        def measure(effort: int) -> Measured:
            if self.cancelled():
                raise Cancelled("the build of the index was cancelled; nothing was kept")
            found = self.measured(approximate, effort)
            if not graph or found.recall.low < wanted:
                return found
            # Lists see that a query is unlike the rows, and look further; a graph has to be ready for it.
            found = replace(found, between=self._share(approximate, self.between(self.truth.k), effort))
            lacks = found.between < self.hard
            return replace(found, recall=replace(found.recall, low=found.between)) if lacks else found

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


def middles(rows: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """Queries halfway between two rows (N, dim), prepared: float32 (n, dim), up to 200."""
    half = min(_BETWEEN, (len(rows) + 1) // 2)
    return prepared((rows[:half] + rows[-half:]) / np.float32(2), metric)


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= _WELL_ABOVE else f"{ratio:.1f} times"
