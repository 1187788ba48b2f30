from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled
from trunkline_service.index.choosing.measuring import (
    Truth,
    lower_end,
    measured,
    shares_found,
    true_neighbours,
)
from trunkline_service.index.kinds.building import build
from trunkline_service.index.metric import prepared

METRICS = ["cosine", "dot", "euclidean"]


def vectors_of(metric: str, rows: int, seed: int) -> NDArray[np.float32]:
    return prepared(np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32), metric)


def truth_of(queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int, metric: str) -> Truth:
    steps = count()
    return true_neighbours(queries, vectors, k, metric, threads=1, clock=lambda: float(next(steps)))


@pytest.mark.parametrize("metric", METRICS)
def test_the_truth_is_brute_force_and_its_rate_is_of_whole_batches(metric: str) -> None:
    queries, vectors = vectors_of(metric, 150, 1), vectors_of(metric, 500, 2)

    truth = truth_of(queries, vectors, 5, metric)

    wide, rows = queries.astype(np.float64), vectors.astype(np.float64)
    scores = wide @ rows.T if metric != "euclidean" else -np.linalg.norm(wide[:, None] - rows, axis=2)
    np.testing.assert_array_equal(truth.positions, np.argsort(-scores, axis=1)[:, :5])
    assert (truth.rows, truth.k) == (500, 5)
    # Each batch takes a second of this clock: two of 64, and one of 22.
    assert truth.queries_per_s == pytest.approx(64)


def test_a_structure_that_finds_all_has_full_recall_and_one_that_looks_little_has_not() -> None:
    queries, vectors = vectors_of("cosine", 100, 1), vectors_of("cosine", 1000, 2)
    truth = truth_of(queries, vectors, 10, "cosine")
    lists = build(
        "ivf_flat",
        vectors,
        metric="cosine",
        parameters={"nlist": 20, "left_permille": 1_000_000},
        progress=lambda phase, done: None,
        cancelled=lambda: False,
        threads=1,
    )

    full = measured(lists, truth, 20, threads=1, clock=lambda: 0.0, version=7).recall
    little = measured(lists, truth, 1, threads=1, clock=lambda: 0.0).recall

    assert (full.measured, full.k, full.queries, full.version, full.rows) == (1.0, 10, 100, 7, 1000)
    assert 0.99 < full.low < 1
    found = lists.search(queries, 10, 1)[1]
    expected = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, truth.positions, strict=True)])
    assert little.measured == pytest.approx(expected)
    assert little.low < little.measured < 0.9


def test_of_equal_rows_any_is_right() -> None:
    vectors = np.repeat(vectors_of("cosine", 10, 0), 5, axis=0)
    queries = vectors[::5]
    truth = truth_of(queries, vectors, 3, "cosine")
    others = np.arange(10)[:, None] * 5 + [4, 3, 2]
    far = (others + 5) % 50

    assert not np.array_equal(np.sort(others), np.sort(truth.positions))
    np.testing.assert_array_equal(shares_found(truth.scores, others, truth), np.ones(10))
    np.testing.assert_array_equal(shares_found(np.full((10, 3), -2, np.float32), far, truth), np.zeros(10))


def test_rows_that_are_fewer_than_k_are_all_that_can_be_found() -> None:
    vectors = vectors_of("euclidean", 4, 0)
    truth = truth_of(vectors[:2], vectors, 10, "euclidean")
    half = truth.positions.copy()
    half[:, 2:] = -1
    scores = np.where(half < 0, -np.inf, truth.scores).astype(np.float32)

    assert truth.k == 4
    np.testing.assert_array_equal(shares_found(truth.scores, truth.positions, truth), [1.0, 1.0])
    np.testing.assert_array_equal(shares_found(scores, half, truth), [0.5, 0.5])


def test_cancelling_ends_both() -> None:
    vectors = vectors_of("cosine", 10, 0)
    truth = truth_of(vectors, vectors, 2, "cosine")
    lists = build(
        "ivf_flat",
        vectors,
        metric="cosine",
        parameters={"nlist": 1},
        progress=lambda phase, done: None,
        cancelled=lambda: False,
        threads=1,
    )

    with pytest.raises(Cancelled):
        true_neighbours(vectors, vectors, 2, "cosine", threads=1, clock=float, cancelled=lambda: True)
    with pytest.raises(Cancelled):
        measured(lists, truth, 1, threads=1, clock=float, cancelled=lambda: True)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10), min_size=1, max_size=200))
def test_the_lower_end_is_a_share_below_the_mean(found: list[int]) -> None:
    shares = np.array(found) / 10

    low = lower_end(shares, 10)

    assert 0 <= low <= shares.mean()
    assert low < shares.mean() or shares.mean() == 0
    # More of the same is surer.
    assert lower_end(np.tile(shares, 10), 10) >= low


def test_the_lower_end_of_full_recall() -> None:
    assert lower_end(np.ones(1000), 10) == pytest.approx(0.9996, abs=1e-4)
    assert lower_end(np.ones(3), 10) == pytest.approx(0.886, abs=1e-3)


@pytest.mark.parametrize("together", [False, True])
def test_the_lower_end_is_below_the_true_recall_as_often_as_it_says(together: bool) -> None:
    rng = np.random.default_rng(0)
    true, runs, queries = 0.97, 1500, 200
    if together:
        # A query finds all, or half.
        shares = np.where(rng.random((runs, queries)) < 0.06, 0.5, 1.0)
    else:
        shares = rng.binomial(10, true, (runs, queries)) / 10

    below = np.mean([lower_end(row, 10) <= true for row in shares])

    # The interval holds 95% on both sides, so its lower end is below in about 97.5%.
    assert below >= 0.95
