from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled, InvalidArgument
from trunkline_service.index.kinds.kmeans import assign, fit_centroids
from trunkline_service.index.metric import prepared

METRICS = ["cosine", "dot", "euclidean"]


def _blobs(
    clusters: int, each: int, dim: int = 8, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim)) * 10
    truth = np.repeat(np.arange(clusters), each)
    vectors = centres[truth] + rng.normal(size=(len(truth), dim)) * 0.05
    order = rng.permutation(len(truth))
    return vectors[order].astype(np.float32), truth[order]


@pytest.mark.parametrize("metric", METRICS)
def test_blobs_that_lie_apart_are_found(metric: str) -> None:
    vectors, truth = _blobs(12, 50)
    vectors = prepared(vectors, metric)

    centroids = fit_centroids(vectors, 12, metric=metric)
    assigned, _ = assign(vectors, centroids, metric=metric)

    assert len(np.unique(assigned)) == 12
    assert all(len(np.unique(assigned[truth == blob])) == 1 for blob in range(12))


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 300),
    count=st.integers(1, 40),
    dim=st.integers(1, 9),
    metric=st.sampled_from(METRICS),
    offset=st.sampled_from([0.0, 1000.0]),
    seed=st.integers(0, 5),
)
def test_assign_gives_the_nearest_centroid_and_its_score(
    rows: int, count: int, dim: int, metric: str, offset: float, seed: int
) -> None:
    count = min(count, rows)
    rng = np.random.default_rng(seed)
    vectors = prepared((rng.normal(size=(rows, dim)) + offset).astype(np.float32), metric)

    centroids = fit_centroids(vectors, count, metric=metric, seed=seed)
    assigned, scores = assign(vectors, centroids, metric=metric)

    assert (centroids.dtype, centroids.shape) == (np.float32, (count, dim))
    assert (assigned.dtype, assigned.shape, scores.dtype) == (np.int32, (rows,), np.float32)
    wide, middles = vectors.astype(np.float64), centroids.astype(np.float64)
    apart = -np.linalg.norm(wide[:, None] - middles[None], axis=2)
    expected = wide @ middles.T if metric == "cosine" else apart
    np.testing.assert_allclose(scores, expected[np.arange(rows), assigned], atol=1e-3)
    np.testing.assert_allclose(expected[np.arange(rows), assigned], expected.max(axis=1), atol=1e-3)


def test_many_centroids_leave_no_cluster_empty_where_rows_differ() -> None:
    # Half of the rows are one and the same, so that random first centroids collide.
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(2000, 6)).astype(np.float32)
    vectors[:1000] = vectors[0]

    centroids = fit_centroids(vectors, 300, metric="euclidean", iterations=30)
    assigned, _ = assign(vectors, centroids, metric="euclidean")

    assert len(np.unique(assigned)) > 290


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [1, 5, 20])
def test_rows_that_are_all_equal_give_their_own_place(metric: str, count: int) -> None:
    vectors = prepared(np.full((20, 4), 2.0, np.float32), metric)

    centroids = fit_centroids(vectors, count, metric=metric)

    np.testing.assert_allclose(centroids, vectors[:count], rtol=1e-6)


def test_cosine_centroids_have_length_one_also_beside_rows_of_zeros() -> None:
    vectors = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    vectors[::7] = 0

    centroids = fit_centroids(prepared(vectors, "cosine"), 10, metric="cosine")

    lengths = np.linalg.norm(centroids, axis=1)
    assert np.all((lengths < 1e-6) | (np.abs(lengths - 1) < 1e-5))


def test_the_same_seed_gives_the_same_centroids_and_a_file_the_same_as_memory(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    vectors.tofile(tmp_path / "vectors.f32")
    mapped = np.memmap(tmp_path / "vectors.f32", np.float32, "r", shape=vectors.shape)

    first = fit_centroids(vectors, 20, metric="euclidean", sample_per_centroid=32, seed=5)
    second = fit_centroids(mapped, 20, metric="euclidean", sample_per_centroid=32, seed=5)

    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(
        assign(vectors, first, metric="euclidean")[0], assign(mapped, first, metric="euclidean")[0]
    )


@pytest.mark.parametrize("count", [0, -1, 11])
def test_a_count_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(InvalidArgument, match=f"{count} centroids"):
        fit_centroids(np.ones((10, 2), np.float32), count, metric="cosine")


def test_cancelling_ends_both() -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)

    with pytest.raises(Cancelled):
        fit_centroids(vectors, 10, metric="euclidean", cancelled=lambda: True)
    with pytest.raises(Cancelled):
        assign(vectors, vectors[:3], metric="euclidean", cancelled=lambda: True)
