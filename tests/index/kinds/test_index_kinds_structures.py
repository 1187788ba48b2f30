"""Laws of every approximate structure; the answers of exact search are the truth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.index.kinds.structures import (
    KINDS,
    METRICS,
    PARAMETERS,
    ROWS,
    built,
    exactly,
    queries_of,
    recall,
    structure,
    vectors_of,
    whole,
)

from trunkline_service.index.kinds.ivf import Ivf
from trunkline_service.index.kinds.reading import read
from trunkline_service.index.metric import pair_scores
from trunkline_service.index.options import IndexKind


@pytest.mark.parametrize("metric", METRICS)
@settings(deadline=None, max_examples=25)
@given(first=st.integers(0, 55), k=st.integers(1, 40), share=st.floats(0.002, 1), seed=st.integers(0, 9))
def test_all_lists_of_whole_vectors_give_the_answers_of_exact_search(
    metric: str, first: int, k: int, share: float, seed: int
) -> None:
    queries = queries_of(metric)[first : first + 5]
    allowed = np.random.default_rng(seed).random(ROWS) < share

    scores, positions = structure("ivf_flat", metric).search(queries, k, 24, allowed, threads=2)

    true_scores, true_positions = exactly(metric, queries, k, allowed)
    np.testing.assert_array_equal(positions, true_positions)
    np.testing.assert_array_equal(scores, true_scores)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_full_effort_finds_nearly_all_neighbours(kind: IndexKind, metric: str) -> None:
    queries = queries_of(metric)

    _, positions = structure(kind, metric).search(queries, 10, whole(kind), threads=2)

    # A graph of inner products need not lead everywhere.
    least = 0.9 if (kind, metric) == ("hnsw", "dot") else 0.99
    assert recall(positions, exactly(metric, queries, 10)[1]) >= least


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_more_effort_finds_no_less_and_little_effort_some(kind: IndexKind, metric: str) -> None:
    queries = queries_of(metric)
    true = exactly(metric, queries, 10)[1]

    few, some, many = (
        recall(structure(kind, metric).search(queries, 10, effort)[1], true) for effort in (1, 8, whole(kind))
    )

    assert 0.1 < few <= some <= many


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(
    k=st.integers(1, 50),
    effort=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.003, 0.1, 0.9, 1.0]),
    seed=st.integers(0, 9),
)
def test_answers_are_allowed_and_different_and_sorted_and_scored_exactly(
    kind: IndexKind, metric: str, k: int, effort: int, share: float, seed: int
) -> None:
    queries = queries_of(metric)[seed : seed + 7]
    allowed = np.random.default_rng(seed).random(ROWS) < share

    scores, positions = structure(kind, metric).search(queries, k, effort, allowed, threads=2)

    assert (scores.dtype, positions.dtype, scores.shape) == (np.float32, np.int64, (7, k))
    assert positions.shape == (7, k)
    for query, row, found in zip(queries, scores, positions, strict=True):
        count = int((found >= 0).sum())
        assert np.all(found[count:] == -1)
        assert np.all(np.isneginf(row[count:]))
        assert np.all(allowed[found[:count]])
        assert len(np.unique(found[:count])) == count
        assert np.all(np.diff(row[:count]) <= 0)
        expected = pair_scores(query[None], vectors_of(metric)[found[:count]][None], metric)[0]
        np.testing.assert_array_equal(row[:count], expected)


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_sq8", "ivf_pq"])
def test_a_filter_whose_rows_lie_far_away_leaves_no_query_short(kind: IndexKind) -> None:
    vectors, queries = vectors_of("cosine"), queries_of("cosine")
    query = queries[0]
    allowed = vectors @ query < np.sort(vectors @ query)[ROWS // 20]

    _, positions = structure(kind, "cosine").search(query[None], 40, 1, allowed)

    assert np.all(positions >= 0)
    assert np.all(allowed[positions])


def test_a_filter_whose_rows_lie_together_costs_little_recall() -> None:
    vectors, queries = vectors_of("cosine"), queries_of("cosine")
    # Looking into the two nearest lists alone, whatever they hold, finds 0.48.
    allowed = vectors[:, 0] > np.quantile(vectors[:, 0], 0.85)

    _, positions = structure("ivf_flat", "cosine").search(queries, 10, 2, allowed)

    assert recall(positions, exactly("cosine", queries, 10, allowed)[1]) > 0.75


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_answers_the_same_when_it_is_read(
    kind: IndexKind, metric: str, tmp_path: Path
) -> None:
    vectors = vectors_of(metric)
    vectors.tofile(tmp_path / "vectors.f32")
    mapped = np.memmap(tmp_path / "vectors.f32", np.float32, "r", shape=vectors.shape)
    original = structure(kind, metric)
    original.write(tmp_path)

    again = read(kind, tmp_path, mapped, original.parameters, metric)

    assert (again.kind, len(again), again.parameters) == (kind, ROWS, original.parameters)
    assert again.nbytes == original.nbytes
    allowed = np.arange(ROWS) % 3 > 0
    for effort in (2, 12):
        for mask in (None, allowed):
            one = original.search(queries_of(metric), 10, effort, mask)
            other = again.search(queries_of(metric), 10, effort, mask)
            np.testing.assert_array_equal(one[1], other[1])
            np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("kind", KINDS)
def test_searches_at_once_answer_as_one_after_another(kind: IndexKind) -> None:
    approximate, queries = structure(kind, "cosine"), queries_of("cosine")
    masks = [None, np.arange(ROWS) % 2 == 0, np.arange(ROWS) % 2 == 1]
    calls = [
        (k, effort, mask, threads)
        for k in (3, 10)
        for effort in (2, 9)
        for mask in masks
        for threads in (1, 2)
    ]
    serial = [approximate.search(queries, k, effort, mask) for k, effort, mask, _ in calls]

    with ThreadPoolExecutor(6) as pool:
        pending = [pool.submit(approximate.search, queries, *call) for call in calls * 4]
        together = [future.result() for future in pending]

    for one, other in zip(serial * 4, together, strict=True):
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_answers_as_its_queries_alone(kind: IndexKind) -> None:
    approximate, queries = structure(kind, "euclidean"), queries_of("euclidean")

    together = approximate.search(queries, 5, 6, threads=2)[1]

    alone = np.vstack([approximate.search(query[None], 5, 6)[1] for query in queries])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("kind", KINDS)
def test_more_neighbours_than_rows_and_no_queries(kind: IndexKind) -> None:
    approximate = structure(kind, "cosine")

    scores, positions = approximate.search(queries_of("cosine")[:2], ROWS + 5, whole(kind))
    nothing = approximate.search(queries_of("cosine")[:0], 4, 3, threads=2)

    assert np.all(positions[:, -5:] == -1)
    assert np.all(np.isneginf(scores[:, -5:]))
    assert np.all(positions[:, : ROWS // 2] >= 0)
    assert (nothing[0].shape, nothing[1].shape) == ((0, 4), (0, 4))


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_sq8", "hnsw"])
@pytest.mark.parametrize("rows", [1, 2, 30])
def test_few_rows_and_rows_of_zeros(kind: IndexKind, rows: int) -> None:
    vectors = vectors_of("cosine")[:rows].copy()
    vectors[rows // 2] = 0

    approximate = built(kind, "cosine", vectors, **({} if kind == "hnsw" else {"nlist": 1}))
    _, positions = approximate.search(vectors[:1], rows, 50)

    assert sorted(positions[0]) == list(range(rows))


def test_a_wider_choice_mends_product_codes() -> None:
    approximate, queries = structure("ivf_pq", "cosine"), queries_of("cosine")
    assert isinstance(approximate, Ivf)
    true = exactly("cosine", queries, 10)[1]

    narrow, wide = (approximate.with_k_factor(factor) for factor in (1, 30))

    assert narrow.parameters == PARAMETERS["ivf_pq"] | {"k_factor": 1}
    assert (
        recall(narrow.search(queries, 10, 24)[1], true) < recall(wide.search(queries, 10, 24)[1], true) - 0.05
    )
