"""Recall of a view is the share of true neighbours that it finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.index.points import Sighted, level, segment, view_of

from trunkline_service.errors import Cancelled, InvalidArgument, NotEnoughData
from trunkline_service.index.card import Recall
from trunkline_service.index.choosing.measuring import lower_end
from trunkline_service.index.recall import measure
from trunkline_service.index.segment import at_fragments
from trunkline_service.index.view import View
from trunkline_service.index.workers import Workers

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((400, 4), np.float32)


def measured(view: View, k: int = 5, queries: int = 50, exact_rows: int = 0, seed: int = 0) -> Recall:
    return measure(view, k, queries, exact_rows=exact_rows, workers=Workers(1), seed=seed)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_exact_search_finds_everything(metric: str) -> None:
    view = view_of(segment(VECTORS, metric=metric), metric=metric)
    found = measured(view)
    assert found == Recall(5, 1.0, lower_end(np.ones(50), 5), 50, 1, 400)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_rows_and_rows_of_equal_distance_count_as_found(metric: str) -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 30, axis=0) * 100
    assert measured(view_of(segment(vectors, metric=metric), metric=metric), k=7).measured == 1.0


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_what_is_not_seen_lowers_it_by_as_much(metric: str) -> None:
    # The structure sees 100 of 300 rows; the others beside it are compared.
    view = view_of(
        segment(VECTORS[:300], effort=100, metric=metric),
        segment(VECTORS[300:], first=300, metric=metric),
        metric=metric,
    )
    found = measured(view, k=5, queries=100)
    wide = np.concatenate([part.segment.vectors for part in view.parts]).astype(np.float64)
    rates = [share_seen(wide, query, 5, metric) for query in range(300, 400)]
    assert found.measured == pytest.approx(np.mean(rates), abs=1e-9)
    assert found.low == pytest.approx(lower_end(np.array(rates), 5), abs=1e-9)
    assert found.low < found.measured
    assert (found.queries, found.rows, found.k) == (100, 400, 5)


def share_seen(wide: NDArray[np.float64], query: int, k: int, metric: str) -> float:
    scores = wide @ wide[query] if metric != "euclidean" else -np.linalg.norm(wide - wide[query], axis=1)
    scores[query] = -np.inf
    best = set(np.argsort(-scores)[:k].tolist())
    return len(best - set(range(100, 300))) / k


@pytest.mark.parametrize("k", [5, 7, 51])
def test_what_is_measured_is_the_effort_that_searches_of_as_many_neighbours_use(k: int) -> None:
    view = view_of(segment(VECTORS, effort=1))
    part = view.parts[0]
    levels = (level(100, k=5), level(200, k=49))
    view = replace(view, parts=(replace(part, segment=replace(part.segment, levels=levels)),))
    structure = part.segment.approximate
    assert isinstance(structure, Sighted)
    found = measured(view, k=k)
    view.search(VECTORS[:1], k, None, exact_rows=0, workers=Workers(1))
    efforts = [effort for _, effort in structure.asked]
    assert efforts == {5: [100, 100], 7: [200, 200], 51: []}[k]
    assert (found.measured == 1.0) is (k == 51)


def test_rows_beside_the_structure_are_asked_first_and_dead_ones_never() -> None:
    # Those of the structure find nothing but themselves, so asking one of them would show.
    view = view_of(segment(VECTORS[:300], effort=300), segment(VECTORS[300:], first=300))
    alive = np.arange(100) % 2 == 0
    (indexed, beside) = view.parts
    view = replace(view, parts=(indexed, at_fragments(beside, alive, beside.fragment)))
    assert measured(view, queries=50).queries == 50
    assert measured(view, queries=1000).queries == 350


def test_a_few_rows_are_measured_with_as_many_neighbours_as_there_are() -> None:
    found = measured(view_of(segment(VECTORS[:3])), k=10)
    assert found == Recall(2, 1.0, lower_end(np.ones(3), 2), 3, 1, 3)
    # All of a few were found, and that says little.
    assert found.low < 0.7
    assert measured(view_of(segment(VECTORS[:9])), k=2, queries=1).low < 0.5


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_cannot_be_measured(rows: int) -> None:
    view = view_of(segment(VECTORS[:rows])) if rows else view_of()
    with pytest.raises(NotEnoughData, match=f"has {rows} rows"):
        measured(view)


@pytest.mark.parametrize(
    ("k", "queries", "words"),
    [(0, 10, "k is 0"), (1001, 10, "k is 1001"), (5, 0, "queries is 0"), (5, 10_001, "queries is 10001")],
)
def test_what_cannot_be_measured_is_refused(k: int, queries: int, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        measured(view_of(segment(VECTORS)), k=k, queries=queries)


def test_the_same_seed_asks_the_same_rows() -> None:
    view = view_of(segment(VECTORS, effort=120))
    assert measured(view, seed=1) == measured(view, seed=1)
    assert measured(view, seed=1, queries=10) != measured(view, seed=2, queries=10)


@pytest.mark.parametrize("asked", [1, 2, 3, 4, 5])
def test_it_can_be_called_off_between_blocks(asked: int) -> None:
    left = iter([False] * (asked - 1))
    with pytest.raises(Cancelled):
        measure(
            view_of(segment(VECTORS)),
            5,
            100,
            exact_rows=0,
            workers=Workers(1),
            cancelled=lambda: next(left, True),
        )
    assert list(left) == []
