from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trunkline_service.index.kinds.lists import Lists
from trunkline_service.index.metric import prepared

METRICS = ["cosine", "dot", "euclidean"]


def data(metric: str, lists: int, queries: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    offset = 100.0 if metric == "euclidean" else 0.0
    every = prepared((rng.normal(size=(lists + queries, 5)) + offset).astype(np.float32), metric)
    return every[:lists], every[lists:]


def true_scores(
    queries: NDArray[np.float32], centroids: NDArray[np.float32], metric: str
) -> NDArray[np.float64]:
    wide, middles = queries.astype(np.float64), centroids.astype(np.float64)
    if metric == "euclidean":
        return -np.square(wide[:, None] - middles[None]).sum(axis=2)
    return wide @ middles.T


@settings(deadline=None, max_examples=60)
@given(
    metric=st.sampled_from(METRICS),
    lists=st.integers(1, 60),
    queries=st.integers(0, 5),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_the_nearest_lists_and_their_distances(
    metric: str, lists: int, queries: int, share: float, seed: int
) -> None:
    centroids, asked = data(metric, lists, queries, seed)
    count = max(1, round(share * lists))

    of = Lists(centroids, metric)
    scored = of.scored(asked)
    chosen = of.nearest(scored, count)
    near = of.distances(scored, chosen)

    scores = true_scores(asked, centroids, metric)
    assert (chosen.shape, near.shape, chosen.dtype, near.dtype) == (
        (queries, count),
        (queries, count),
        np.int64,
        np.float32,
    )
    for row, found, distances in zip(scores, chosen, near, strict=True):
        assert set(found) == set(np.argsort(-row)[:count])
        expected = -row[found] if metric == "euclidean" else row[found]
        np.testing.assert_allclose(distances, expected, atol=1e-3)


@settings(deadline=None, max_examples=60)
@given(
    metric=st.sampled_from(METRICS),
    lists=st.integers(1, 300),
    queries=st.integers(0, 4),
    empty=st.floats(0, 1),
    enough=st.integers(1, 3000),
    seed=st.integers(0, 9),
)
def test_lists_are_taken_until_they_hold_enough_and_empty_ones_are_passed_over(
    metric: str, lists: int, queries: int, empty: float, enough: int, seed: int
) -> None:
    centroids, asked = data(metric, lists, queries, seed)
    rng = np.random.default_rng(seed)
    rows = np.where(rng.random(lists) < empty, 0, rng.integers(1, 30, lists))

    of = Lists(centroids, metric)
    scored = of.scored(asked)
    before = scored.scores.copy()
    chosen = of.nearest_holding(scored, rows, enough)

    assert (scored.scores == before).all()
    assert of.distances(scored, chosen).shape == chosen.shape
    for row, found in zip(true_scores(asked, centroids, metric), chosen, strict=True):
        taken = found[found >= 0]
        if not rows.any():
            continue
        filled = [place for place in np.argsort(-row) if rows[place]]
        held = np.cumsum(rows[filled])
        needed = 1 + int(np.searchsorted(held, enough)) if held[-1] >= enough else len(filled)
        assert list(taken) == filled[:needed]
        assert np.all(found[len(taken) :] == -1)


def test_distances_stay_true_far_from_the_origin() -> None:
    centroids = np.array([[4000.0, 0.0], [4000.0, 1.0]], np.float32)
    query = np.array([[4000.0, 0.4]], np.float32)

    of = Lists(centroids, "euclidean")
    scored = of.scored(query)
    chosen = of.nearest(scored, 2)
    near = of.distances(scored, chosen)

    np.testing.assert_allclose(near[0][np.argsort(chosen[0])], [0.16, 0.36], rtol=1e-3)


@pytest.mark.parametrize("count", [3, 9])
def test_equal_centroids_are_each_taken_once(count: int) -> None:
    of = Lists(np.ones((12, 4), np.float32), "cosine")
    chosen = of.nearest(of.scored(np.ones((2, 4), np.float32)), count)

    assert all(len(set(row)) == count for row in chosen)
