"""The flat index equals brute force in double precision."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trunkline_service.collections.matrix import EmbeddingMatrix, Texts
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.index import flat
from trunkline_service.index.flat import FlatIndex, normalised


def index_of(vectors: NDArray[np.float32], threads: int = 2) -> FlatIndex:
    rows, dim = vectors.shape
    texts = pa.array([str(row) for row in range(rows)], pa.large_utf8())
    spec = CollectionSpec(space_id="sp1-a", dim=dim, model="m@1", artifact_id="ar1-a", decode="exact")
    return FlatIndex(
        EmbeddingMatrix(
            spec,
            "uid",
            1,
            np.arange(rows, dtype=np.uint64),
            vectors,
            lambda: Texts(texts, texts, texts, texts),
        ),
        threads,
    )


def cosines(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    products = queries.astype(np.float64) @ vectors.astype(np.float64).T
    lengths = np.outer(
        np.linalg.norm(queries.astype(np.float64), axis=1), np.linalg.norm(vectors.astype(np.float64), axis=1)
    )
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 60),
    queries=st.integers(0, 25),
    k=st.integers(1, 70),
    share=st.sampled_from([None, 0.0, 0.3, 1.0]),
    block=st.sampled_from([7, 16_384]),
)
def test_search_equals_brute_force(
    seed: int, rows: int, queries: int, k: int, share: float | None, block: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((rows, 8), np.float32)
    vectors[rng.random(rows) < 0.1] = 0
    asked = rng.standard_normal((queries, 8), np.float32)
    allowed = None if share is None else rng.random(rows) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat, "_BLOCK_ROWS", block)
        scores, positions = index_of(vectors).search(asked, k, allowed)
    assert scores.shape == positions.shape == (queries, k)
    assert scores.dtype == np.float32
    may = np.ones(rows, bool) if allowed is None else allowed
    truth = np.where(may, cosines(asked, vectors), -np.inf)
    found = min(k, int(may.sum()))
    assert (positions[:, found:] == -1).all()
    assert np.isneginf(scores[:, found:]).all()
    best = -np.sort(-truth, axis=1)[:, :found]
    np.testing.assert_allclose(scores[:, :found], best, atol=2e-6)
    np.testing.assert_allclose(
        np.take_along_axis(truth, positions[:, :found], axis=1), scores[:, :found], atol=2e-6
    )
    assert all(len(set(row[:found])) == found for row in positions.tolist())


def test_of_equal_scores_the_lower_position_comes_first() -> None:
    vectors = np.tile(np.array([[3.0, 4.0]], np.float32), (6, 1))
    scores, positions = index_of(vectors).search(vectors[:2], 6)
    assert positions.tolist() == [list(range(6))] * 2
    np.testing.assert_allclose(scores, 1.0, atol=1e-6)
    assert (scores <= 1.0).all()


def test_a_vector_of_zeros_scores_zero_and_no_length_is_too_extreme() -> None:
    vectors = np.array([[0, 0], [3e38, 3e38], [1e-45, 1e-45], [-1, 0]], np.float32)
    scores, positions = index_of(vectors).search(np.array([[1, 1], [0, 0]], np.float32), 4)
    assert positions[0].tolist() == [1, 2, 0, 3]
    np.testing.assert_allclose(scores[0], [1, 1, 0, -np.sqrt(0.5)], atol=1e-6)
    assert scores[1].tolist() == [0, 0, 0, 0]


def test_the_matrix_is_not_changed() -> None:
    vectors = np.array([[3.0, 4.0]], np.float32)
    index_of(vectors)
    assert vectors.tolist() == [[3.0, 4.0]]
    np.testing.assert_allclose(normalised(vectors), [[0.6, 0.8]])
