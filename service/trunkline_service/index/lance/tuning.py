"""Lance's index of a collection made, and the least effort found by which it reaches the wanted recall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.nearest import StoredVectors
from trunkline_service.errors import Cancelled, FailedPrecondition, NotEnoughData
from trunkline_service.index.calling_off import never
from trunkline_service.index.card import Recall, Setting
from trunkline_service.index.choosing.measuring import lower_end
from trunkline_service.index.lance.candidates import Effort, by_index, compared
from trunkline_service.index.lance.searching import Tuned
from trunkline_service.index.metric import prepared
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.workers import Workers

QUERIES = 200
_REFINE = (2, 5, 10, 20, 50, 100)
# In single precision, scores of equal distance differ by as much.
_ROUNDING = 1e-6
# Measured on the very rows that it was tuned on, an effort would look better than it is.
_SEED_OF_TUNING, _SEED_OF_MEASURING = 0, 1

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class LanceBuild:
    """An index that was made and measured.

    Attributes:
        version: The collection's that it was made of.
        rows: That it holds.
        nbytes: Of its files, on the disk.
        parameters: ``num_partitions``, ``num_sub_vectors``, ``refine_factor``.
        tuned: The effort, and the recall that it gives.
        settings: All that were measured; their efforts are nprobes, and may come once for each refine factor.
        reason: Whether the wanted recall was reached, in a sentence.
        seconds: That it took.
    """

    version: int
    rows: int
    nbytes: int
    parameters: dict[str, int]
    tuned: Tuned
    settings: tuple[Setting, ...]
    reason: str
    seconds: float


def build(
    collection: Collection,
    options: IndexOptions,
    *,
    clock: Callable[[], float],
    workers: Workers | None = None,
    progress: Progress = lambda *_: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> LanceBuild:
    """Makes Lance's index of a collection, and measures which effort it needs.

    The index is part of the collection, whose version grows by one.

    Args:
        collection: Whose.
        options: The wanted recall, and its k.
        clock: Monotonic seconds.
        workers: Threads for the exact answers.
        progress: Told the phase and the share of it that is done, 0..1.
        cancelled: Asked now and then.

    Raises:
        NotEnoughData: Fewer than 256 rows with a vector: comparing all is fast.
        Cancelled: ``cancelled`` said so.
        StorageError: It can't be written.
    """
    started = clock()
    collection.create_vector_index(progress=progress, cancelled=cancelled)
    stored = collection.stored_vectors()
    index = stored.index
    if index is None:
        raise FailedPrecondition(
            f"collection {collection.name!r}: somebody dropped its index or restored an older version while it was "
            "measured; build it again"
        )
    progress("measure", 0.0)
    probe = Probe(stored, options.k, QUERIES, workers or Workers(1), cancelled, seed=_SEED_OF_TUNING)
    trials = _tune(probe, options.recall, stored.partitions, clock, progress, cancelled)
    best = trials.best
    reached = best.recall.low >= options.recall
    reason = (
        f"recall@{best.recall.k} {best.recall.measured:.3f} measured on {best.recall.queries} rows, at least "
        f"{best.recall.low:.3f}; " + ("" if reached else f"no effort reached the wanted {options.recall:g}; ")
    ) + f"looks at {best.effort.nprobes} of {stored.partitions} partitions"
    return LanceBuild(
        version=index.built_from,
        rows=index.rows,
        nbytes=index.nbytes,
        parameters={
            "num_partitions": stored.partitions,
            "num_sub_vectors": index.sub_vectors,
            "refine_factor": best.effort.refine_factor,
        },
        tuned=Tuned(index.uuid, best.effort, best.recall),
        settings=tuple(
            Setting(trial.effort.nprobes, trial.recall.measured, trial.queries_per_s) for trial in trials.all
        ),
        reason=reason,
        seconds=clock() - started,
    )


def measure(
    collection: Collection,
    tuned: Tuned,
    k: int,
    queries: int = QUERIES,
    workers: Workers | None = None,
    cancelled: Callable[[], bool] = never,
) -> Recall:
    """Recall@k of Lance's index with an effort, now, on other rows than it was tuned on.

    Raises:
        NotEnoughData: Fewer than two rows with a vector.
        Cancelled: ``cancelled`` said so.
    """
    stored = collection.stored_vectors()
    probe = Probe(stored, k, queries, workers or Workers(1), cancelled, seed=_SEED_OF_MEASURING)
    return probe.recall(tuned.effort)


class Probe:
    """Rows of a collection as queries, with their true neighbours; a row is none of itself.

    The rows are drawn at random, and the index holds most of them: it stores codes of rows, and no links
    between them that would lead to a row from itself, so this tells of other queries as well. One pass over
    the collection finds the truth.

    Args:
        stored: The version.
        k: Neighbours.
        queries: The most rows to ask for.
        workers: Threads.
        cancelled: Asked while rows are read, and at every `recall`.
        seed: Of the draw.

    Raises:
        NotEnoughData: Fewer than two rows with a vector.
        Cancelled: ``cancelled`` said so.
    """

    def __init__(
        self,
        stored: StoredVectors,
        k: int,
        queries: int,
        workers: Workers,
        cancelled: Callable[[], bool] = never,
        *,
        seed: int,
    ) -> None:
        self._stored = stored
        self._cancelled = cancelled
        drawn = stored.sample(queries, seed)
        self._rows = stored.count()
        if self._rows < 2 or not len(drawn.row_ids):
            raise NotEnoughData(
                f"the collection has {self._rows} rows with a vector; recall is measured of two or more"
            )
        self._own = drawn.row_ids
        self._queries = prepared(drawn.embeddings, stored.spec.metric)
        self._k = min(k, self._rows - 1)
        scores, row_ids = compared(stored, self._queries, self._k + 1, (None, ()), workers, self._is_over)
        self._kth = self._others(scores, row_ids)

    def __len__(self) -> int:
        return len(self._own)

    def recall(self, effort: Effort) -> Recall:
        """The recall of an effort. A hit counts where it is as near as the true k-th.

        Raises:
            Cancelled: ``cancelled`` said so.
        """
        self._is_over()
        found = by_index(self._stored, self._queries, self._k + 1, (None, ()), effort, 1.0, ("id",))
        rates = np.empty(len(found))
        for at, part in enumerate(found):
            scores = part.scores[part.row_ids != self._own[at]][: self._k].astype(np.float64)
            enough = self._kth[at] - _ROUNDING * max(1.0, abs(self._kth[at]))
            rates[at] = np.count_nonzero(scores >= enough) / self._k
        mean = float(rates.mean())
        low = lower_end(rates, self._k)
        return Recall(self._k, mean, low, len(rates), self._stored.version, self._rows)

    def _is_over(self) -> bool:
        if self._cancelled():
            raise Cancelled("measuring Lance's index was cancelled; the index is there as it was")
        return False

    def _others(self, scores: NDArray[np.float32], row_ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """The score of each query's true k-th neighbour, float64 (Q,)."""
        own = row_ids == self._own.astype(np.int64)[:, None]
        # Of many equal rows, a query's own may not be among the first.
        own[~own.any(axis=1), -1] = True
        worst: NDArray[np.float64] = scores[~own].reshape(len(scores), -1)[:, -1].astype(np.float64)
        return worst


@dataclass(frozen=True)
class _Trial:
    effort: Effort
    recall: Recall
    queries_per_s: float


@dataclass(frozen=True)
class _Trials:
    all: list[_Trial]
    best: _Trial


def _tune(
    probe: Probe,
    wanted: float,
    partitions: int,
    clock: Callable[[], float],
    progress: Progress,
    cancelled: Callable[[], bool],
) -> _Trials:
    """The cheapest of the efforts that reach the recall; where none does, the one of the best recall.

    For each refine factor, the partitions that are looked at are doubled until more of them add nothing, or
    the recall is reached; then halved steps back. A larger factor is tried until it
    makes nothing faster.
    """
    tried: list[_Trial] = []

    def attempt(effort: Effort) -> _Trial:
        if cancelled():
            raise Cancelled("measuring the index was cancelled; it is there, and not tuned")
        started = clock()
        recall = probe.recall(effort)
        took = max(clock() - started, 1e-9)
        tried.append(_Trial(effort, recall, len(probe) / took))
        return tried[-1]

    def fastest() -> _Trial | None:
        good = [trial for trial in tried if trial.recall.low >= wanted]
        return max(good, key=lambda trial: trial.queries_per_s, default=None)

    for step, refine in enumerate(_REFINE):
        progress("measure", step / len(_REFINE))
        before = fastest()
        if _least_nprobes(attempt, refine, wanted, partitions) and before is not None and fastest() is before:
            break
    progress("measure", 1.0)
    return _Trials(tried, fastest() or max(tried, key=lambda trial: trial.recall.measured))


def _least_nprobes(attempt: Callable[[Effort], _Trial], refine: int, wanted: float, partitions: int) -> bool:
    """Tries fewer and more partitions; says whether some number of them reached the recall."""
    low, nprobes = 0, min(4, partitions)
    before = -1.0
    while True:
        trial = attempt(Effort(nprobes, refine))
        if trial.recall.low >= wanted:
            break
        if nprobes == partitions or (nprobes >= 16 and trial.recall.measured <= before):
            return False
        low, before = nprobes, trial.recall.measured
        nprobes = min(partitions, 2 * nprobes)
    high = nprobes
    while high - low > max(1, low // 2):
        middle = (low + high) // 2
        if attempt(Effort(middle, refine)).recall.low >= wanted:
            high = middle
        else:
            low = middle
    return True
