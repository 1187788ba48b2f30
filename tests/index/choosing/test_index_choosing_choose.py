from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled
from trunkline_service.index.choosing import trial
from trunkline_service.index.choosing.choice import Choice
from trunkline_service.index.choosing.choose import choose
from trunkline_service.index.exact import nearest
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.kinds.building import build
from trunkline_service.index.metric import prepared
from trunkline_service.index.options import IndexKind, IndexOptions

ROWS, QUERIES, DIM = 3000, 128, 16


class Clock:
    """Exact search's two batches take long, and all others a hundredth of that."""

    def __init__(self, later: float = 0.01) -> None:
        self.now, self.calls, self.later = 0.0, 0, later

    def __call__(self) -> float:
        self.now += 1.0 if self.calls < 4 else self.later
        self.calls += 1
        return self.now


class Lossy:
    """Loses the best answer to each query."""

    def __init__(self, inner: Approximate) -> None:
        self.kind, self.nbytes, self.parameters, self._inner = (
            inner.kind,
            inner.nbytes,
            inner.parameters,
            inner,
        )

    def __len__(self) -> int:
        return len(self._inner)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        effort: int,
        allowed: NDArray[np.bool_] | None = None,
        threads: int = 1,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores, positions = self._inner.search(queries, k + 1, effort, allowed, threads)
        return scores[:, 1:], positions[:, 1:]

    def write(self, folder: Path) -> None:
        raise NotImplementedError


@cache
def data(metric: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(40, DIM))
    raw = centres[rng.integers(40, size=ROWS + QUERIES)] + rng.normal(size=(ROWS + QUERIES, DIM)) * 0.4
    every = prepared(raw.astype(np.float32), metric)
    return every[:ROWS], every[ROWS:]


def chosen(
    options: IndexOptions,
    metric: str = "cosine",
    *,
    flat_rows: int = 500,
    queries: int = QUERIES,
    later: float = 0.01,
    phases: list[str] | None = None,
    stop_after: int | None = None,
) -> Choice:
    vectors, held_out = data(metric)
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return stop_after is not None and asked > stop_after

    def progress(phase: str, done: float) -> None:
        assert 0 <= done <= 1
        if phases is not None and phase not in phases:
            phases.append(phase)

    return choose(
        vectors,
        held_out[:queries],
        metric,
        options,
        flat_rows=flat_rows,
        threads=2,
        clock=Clock(later),
        progress=progress,
        cancelled=cancelled,
        version=9,
    )


def test_few_rows_stay_flat_and_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(trial, "build")

    choice = chosen(IndexOptions(), flat_rows=ROWS)

    assert (choice.kind, choice.approximate, choice.recall, choice.effort) == ("flat", None, None, 0)
    assert "3,000 rows are compared" in choice.reason


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_auto_takes_the_first_kind_that_reaches_the_recall_fast(metric: str) -> None:
    phases: list[str] = []
    choice = chosen(IndexOptions(k=5), metric, phases=phases)

    assert choice.kind == "ivf_flat"
    assert choice.approximate is not None
    assert choice.recall is not None
    assert choice.recall.low >= 0.99
    assert (choice.recall.k, choice.recall.queries) == (5, QUERIES)
    assert (choice.recall.rows, choice.recall.version) == (ROWS, 9)
    assert choice.parameters == choice.approximate.parameters
    by_effort = {setting.effort: setting.recall for setting in choice.settings}
    assert by_effort[choice.effort] == choice.recall.measured
    assert by_effort.get(choice.effort - 1, 0) < by_effort[choice.effort]
    vectors, held_out = data(metric)
    found = choice.approximate.search(held_out, 5, choice.effort)[1]
    halves = (vectors**2).sum(axis=1) / 2 if metric == "euclidean" else None
    true = nearest(held_out, vectors, 5, metric, None, halves)[1]
    share = np.mean([len(np.intersect1d(a, b)) / 5 for a, b in zip(found, true, strict=True)])
    assert share == pytest.approx(choice.recall.measured)
    assert f"{choice.recall.measured:.4f} of the 5 nearest, at 100 times" in choice.reason
    of_ivf = ("clustering", "adding", "measuring lists", "tuning")
    assert phases == ["comparing exactly", *(f"ivf_flat: {phase}" for phase in of_ivf)]


def test_what_is_no_faster_than_exact_search_is_not_taken() -> None:
    choice = chosen(IndexOptions(), later=1.0)

    assert (choice.kind, choice.approximate, choice.parameters) == ("flat", None, {})
    assert "ivf_flat finds" in choice.reason
    assert "hnsw finds" in choice.reason
    assert "0.99 is wanted, so every row is compared" in choice.reason.replace("was", "is")


def test_what_is_only_a_little_faster_is_compared_with_the_next_kind() -> None:
    phases: list[str] = []

    choice = chosen(IndexOptions(), later=0.5, phases=phases)

    assert choice.kind in ("ivf_flat", "hnsw")
    assert "ivf_flat: tuning" in phases
    assert "hnsw: tuning" in phases


def test_a_kind_that_misses_the_recall_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def build_poor_lists(kind: IndexKind, *args: object, **kwargs: object) -> Approximate:
        made = build(kind, *args, **kwargs)  # type: ignore[arg-type]
        return Lossy(made) if kind == "ivf_flat" else made

    monkeypatch.setattr(trial, "build", build_poor_lists)

    assert chosen(IndexOptions()).kind == "hnsw"


def test_where_no_kind_reaches_the_recall_the_reason_tells_what_was_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "build", lambda *args, **kwargs: Lossy(build(*args, **kwargs)))

    for kind in ("auto", "hnsw"):
        choice = chosen(IndexOptions(kind=kind, recall=0.95))  # type: ignore[arg-type]
        assert (choice.kind, choice.approximate) == ("flat", None)
        assert "hnsw finds 0.9" in choice.reason
        assert "0.95 was wanted" in choice.reason
        assert choice.settings


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", ["hnsw", "ivf_flat", "ivf_sq8", "ivf_pq"])
def test_a_kind_that_was_asked_for_may_be_slow_and_the_rows_few(kind: IndexKind, metric: str) -> None:
    choice = chosen(IndexOptions(kind=kind, recall=0.95), metric, flat_rows=1_000_000, later=5.0)

    assert choice.kind == kind
    assert choice.recall is not None
    assert choice.recall.low >= 0.95


def test_few_queries_can_reach_the_target_by_finding_everything() -> None:
    choice = chosen(IndexOptions(kind="ivf_flat"), queries=3)

    assert choice.kind == "ivf_flat"
    assert choice.recall is not None
    assert choice.recall.measured == 1.0
    assert choice.recall.low < 0.99


def test_few_queries_are_not_enough_for_auto() -> None:
    assert chosen(IndexOptions(), queries=3).kind == "flat"


def test_no_queries_give_flat() -> None:
    choice = chosen(IndexOptions(kind="ivf_flat"), queries=0)

    assert choice.kind == "flat"
    assert "no rows to measure recall with" in choice.reason


def test_what_is_short_of_memory_is_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Rows of 16 floats are few bytes for a bound in mebibytes.
    monkeypatch.setattr("trunkline_service.index.choosing.planning._MIB", 1000)

    choice = chosen(IndexOptions(memory_mb=150))

    assert choice.kind == "ivf_sq8"
    assert choice.approximate is not None
    assert choice.approximate.nbytes <= 150_000
    smaller = chosen(IndexOptions(memory_mb=75, recall=0.9))
    assert smaller.kind == "ivf_pq"
    assert smaller.approximate is not None
    assert smaller.approximate.nbytes <= 75_000


def test_product_codes_propose_as_few_rows_as_reach_the_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_service.index.choosing.planning._MIB", 1000)

    easy = chosen(IndexOptions(kind="ivf_pq", recall=0.3, k=1, memory_mb=75))
    hard = chosen(IndexOptions(kind="ivf_pq", recall=0.9, k=1, memory_mb=75))

    assert easy.parameters["k_factor"] == 8
    assert hard.parameters["k_factor"] > 8


@pytest.mark.parametrize("stop_after", [0, 1, 2, 4, 7, 11])
def test_cancelling_ends_it_wherever_it_is(stop_after: int) -> None:
    with pytest.raises(Cancelled):
        chosen(IndexOptions(), stop_after=stop_after)


def test_a_graph_is_tuned_until_queries_between_rows_find_their_neighbours_too() -> None:
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(40, 24))
    every = (middles[rng.integers(0, 40, 4200)] + 0.12 * rng.normal(size=(4200, 24))).astype(np.float32)

    choice = choose(
        np.ascontiguousarray(every[200:]),
        every[:200],
        "euclidean",
        IndexOptions("hnsw"),
        flat_rows=1000,
        threads=1,
        clock=lambda: 0.0,
        progress=lambda phase, done: None,
        cancelled=lambda: False,
    )

    assert choice.kind == "hnsw"
    # Rows found all of theirs with less.
    assert choice.effort > min(setting.effort for setting in choice.settings if setting.recall > 0.999)


@pytest.mark.parametrize(("value", "kind"), [(1e-12, "flat"), (1e16, "flat"), (1e10, "ivf_flat")])
def test_values_that_single_precision_can_not_tell_apart_are_compared_exactly(
    value: float, kind: str
) -> None:
    vectors, held_out = data("euclidean")
    choice = choose(
        vectors * np.float32(value),
        held_out * np.float32(value),
        "euclidean",
        IndexOptions("ivf_flat", 0.9),
        flat_rows=1000,
        threads=1,
        clock=lambda: 0.0,
        progress=lambda phase, done: None,
        cancelled=lambda: False,
    )
    assert choice.kind == kind
    assert ("single precision" in choice.reason) is (kind == "flat")
