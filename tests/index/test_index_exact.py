"""Exact search equals brute force in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trunkline_service.index import exact
from trunkline_service.index.metric import normalise_into, pair_scores, prepared
from trunkline_service.index.workers import Workers

METRICS = ["cosine", "dot", "euclidean"]


@pytest.fixture(scope="module")
def three() -> Iterator[Workers]:
    workers = Workers(3)
    yield workers
    workers.close()


def truth(queries: NDArray[np.float32], vectors: NDArray[np.float32], metric: str) -> NDArray[np.float64]:
    wide, rows = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "euclidean":
        apart: NDArray[np.float64] = -np.linalg.norm(wide[:, None] - rows[None], axis=2)
        return apart
    products: NDArray[np.float64] = wide @ rows.T
    if metric == "dot":
        return products
    lengths = np.outer(np.linalg.norm(wide, axis=1), np.linalg.norm(rows, axis=1))
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def search(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    metric: str,
    allowed: NDArray[np.bool_] | None = None,
    workers: Workers | None = None,
) -> tuple[exact.Scores, exact.Positions]:
    rows = prepared(vectors, metric)
    halves = exact.half_squares_of(rows) if metric == "euclidean" else None
    return exact.nearest(prepared(queries, metric), rows, k, metric, allowed, halves, workers)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 80),
    queries=st.integers(0, 9),
    k=st.integers(1, 90),
    metric=st.sampled_from(METRICS),
    share=st.sampled_from([None, 0.0, 0.1, 0.3, 0.6, 1.0]),
    block=st.sampled_from([1, 7, 4096]),
    tied=st.booleans(),
)
def test_search_equals_brute_force(
    three: Workers,
    seed: int,
    rows: int,
    queries: int,
    k: int,
    metric: str,
    share: float | None,
    block: int,
    tied: bool,
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((rows, 8), np.float32)
    asked = rng.standard_normal((queries, 8), np.float32)
    if tied:
        # A few values only: most scores come several times.
        vectors, asked = np.sign(vectors), np.sign(asked)
    vectors[rng.random(rows) < 0.1] = 0
    allowed = None if share is None else rng.random(rows) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_block_rows", lambda _: block)
        patch.setattr(exact, "_WORTH_A_THREAD", 1)
        alone = search(asked, vectors, k, metric, allowed)
        shared = search(asked, vectors, k, metric, allowed, three)
    may = np.ones(rows, bool) if allowed is None else allowed
    right = np.where(may, truth(asked, vectors, metric), -np.inf)
    found = min(k, int(may.sum()))
    best = -np.sort(-right, axis=1)[:, :found]
    for scores, positions in (alone, shared):
        assert scores.shape == positions.shape == (queries, k)
        assert (scores.dtype, positions.dtype) == (np.float32, np.int64)
        assert (positions[:, found:] == -1).all()
        assert np.isneginf(scores[:, found:]).all()
        np.testing.assert_allclose(scores[:, :found], best, atol=2e-6)
        own = np.take_along_axis(right, positions[:, :found], axis=1)
        np.testing.assert_allclose(scores[:, :found], own, atol=2e-6)
        assert all(len(set(row[:found])) == found for row in positions.tolist())
        if tied and metric != "cosine":
            # No score is rounded, so it is known which are equal.
            first = np.argsort(-right, axis=1, kind="stable")[:, :found]
            assert (positions[:, :found] == first).all()
        equal = scores[:, 1:found] == scores[:, : max(found - 1, 0)]
        assert (positions[:, 1:found] > positions[:, : max(found - 1, 0)])[equal].all()


@pytest.mark.parametrize("metric", METRICS)
def test_many_blocks_in_any_order_of_their_scores(metric: str, three: Workers) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((20_000, 6), np.float32)
    asked = rng.standard_normal((3, 6), np.float32)
    right = truth(asked, vectors, metric)
    for order in (slice(None), np.argsort(right[0]), np.argsort(-right[0])):
        best = -np.sort(-right, axis=1)[:, :50]
        for workers in (None, three):
            scores, positions = search(asked, vectors[order], 50, metric, workers=workers)
            np.testing.assert_allclose(scores, best, atol=5e-6)
            np.testing.assert_allclose(
                np.take_along_axis(right[:, order], positions, axis=1), scores, atol=5e-6
            )


@pytest.mark.parametrize("offset", [0, 30, 1000])
def test_distances_are_right_however_far_from_the_origin_all_vectors_are(offset: float) -> None:
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((3000, 32), np.float32) + np.float32(offset)
    asked = rng.standard_normal((5, 32), np.float32) + np.float32(offset)
    scores, _ = search(asked, vectors, 10, "euclidean")
    best = -np.sort(-truth(asked, vectors, "euclidean"), axis=1)[:, :10]
    np.testing.assert_allclose(scores, best, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(METRICS), dim=st.sampled_from([1, 2, 3, 17, 64])
)
def test_a_pairs_score_is_the_same_whatever_is_searched_beside_it(seed: int, metric: str, dim: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((40, dim), np.float32)
    asked = rng.standard_normal((6, dim), np.float32)
    scores, positions = search(asked, vectors, 40, metric)
    query = int(rng.integers(6))
    kept = np.sort(rng.choice(40, int(rng.integers(1, 40)), replace=False))
    some, at = search(asked[query : query + 1], vectors[kept], len(kept), metric)
    by_position = dict(zip(positions[query].tolist(), scores[query].tolist(), strict=True))
    assert [by_position[kept[place]] for place in at[0].tolist()] == some[0].tolist()


def test_of_equal_scores_the_lower_position_comes_first() -> None:
    vectors = np.tile(np.array([[3.0, 4.0]], np.float32), (6, 1))
    scores, positions = search(vectors[:2], vectors, 6, "cosine")
    assert positions.tolist() == [list(range(6))] * 2
    np.testing.assert_allclose(scores, 1.0, atol=1e-6)
    assert (scores <= 1.0).all()


def test_a_vector_of_zeros_scores_zero_and_no_length_is_too_extreme() -> None:
    vectors = np.array([[0, 0], [3e38, 3e38], [1e-45, 1e-45], [-1, 0]], np.float32)
    scores, positions = search(np.array([[1, 1], [0, 0]], np.float32), vectors, 4, "cosine")
    assert positions[0].tolist() == [1, 2, 0, 3]
    np.testing.assert_allclose(scores[0], [1, 1, 0, -np.sqrt(0.5)], atol=1e-6)
    assert scores[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e-20, 1e15, 1e18, 1e19, 1e25, 1e38])
@pytest.mark.parametrize("share", [None, 0.2, 0.7])
def test_no_size_of_values_is_beyond_search(metric: str, size: float, share: float | None) -> None:
    rng = np.random.default_rng(3)
    vectors = (rng.uniform(-1, 1, (300, 6)) * size).astype(np.float32)
    asked = (rng.uniform(-1, 1, (4, 6)) * size).astype(np.float32)
    allowed = None if share is None else rng.random(300) < share
    right = truth(asked, vectors, metric)
    right[:, np.zeros(300, bool) if allowed is None else ~allowed] = -np.inf
    scores, positions = search(asked, vectors, 10, metric, allowed)
    best = -np.sort(-right, axis=1)[:, :10]
    np.testing.assert_allclose(np.take_along_axis(right, positions, axis=1), best, rtol=1e-5)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_one_row_beyond_single_precision_hides_no_other(metric: str) -> None:
    rng = np.random.default_rng(4)
    vectors, asked = rng.standard_normal((500, 5), np.float32), rng.standard_normal((2, 5), np.float32)
    vectors[7], vectors[300] = 3e38, -3e38
    scores, positions = search(asked, vectors, 500, metric)
    right = truth(asked, vectors, metric)
    assert (np.sort(positions, axis=1) == np.arange(500)).all()
    found = np.take_along_axis(right, positions, axis=1)
    np.testing.assert_allclose(found, -np.sort(-right, axis=1), atol=1e-5, rtol=1e-6)
    assert np.isfinite(scores).all()


def test_products_of_zero_are_not_too_faint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "nearest_in_double", lambda *_: pytest.fail("double precision was asked for"))
    rows = np.eye(8, dtype=np.float32)
    assert search(rows[:1], rows[1:], 3, "dot")[1].tolist() == [[0, 1, 2]]
    assert search(np.zeros((1, 8), np.float32), rows, 3, "dot")[1].tolist() == [[0, 1, 2]]
    assert search(rows[:1], np.zeros((4, 8), np.float32), 3, "dot")[1].tolist() == [[0, 1, 2]]


def test_preparing_does_not_change_the_vectors_unless_it_is_told_to() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    unit = prepared(vectors, "cosine")
    assert vectors.tolist() == [[3.0, 4.0], [0.0, 0.0]]
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0]], atol=1e-7)
    normalise_into(vectors, vectors)
    assert (vectors == unit).all()
    assert (prepared(3 * unit, "dot") == 3 * unit).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(METRICS), most=st.sampled_from([1, 30, 10**6]))
def test_scores_of_pairs_equal_brute_force_and_none_is_minus_infinity(
    seed: int, metric: str, most: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = prepared(rng.standard_normal((12, 5), np.float32), metric)
    asked = prepared(rng.standard_normal((7, 5), np.float32), metric)
    positions = rng.integers(-1, 12, (7, 4))
    right = np.where(
        positions < 0, -np.inf, np.take_along_axis(truth(asked, vectors, metric), np.maximum(positions, 0), 1)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_RESCORED", most)
        np.testing.assert_allclose(exact.rescored(asked, vectors, positions, metric), right, atol=2e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_a_vectors_score_with_itself_is_the_best_there_is(metric: str) -> None:
    vectors = prepared(np.random.default_rng(0).standard_normal((50, 33), np.float32), metric)
    own = pair_scores(vectors, vectors[:, None, :], metric)[:, 0]
    best = {
        "cosine": np.ones(50),
        "dot": (vectors.astype(np.float64) ** 2).sum(axis=1),
        "euclidean": np.zeros(50),
    }
    np.testing.assert_allclose(own, best[metric], rtol=1e-5)
    assert metric == "dot" or (own <= best[metric]).all()


def test_the_best_of_several_answers() -> None:
    one = np.array([[3.0, 1.0]], np.float32), np.array([[4, 0]])
    other = np.array([[3.0, 2.0, -np.inf]], np.float32), np.array([[2, 9, -1]])
    scores, positions = exact.merged([one, other], 4)
    assert (scores.tolist(), positions.tolist()) == ([[3, 3, 2, 1]], [[2, 4, 9, 0]])
    scores, positions = exact.merged([one, other], 6)
    assert (scores[0, 4:].tolist(), positions[0, 4:].tolist()) == ([-np.inf] * 2, [-1] * 2)
    assert exact.merged([one, other], 1)[1].tolist() == [[2]]
