"""Clusters: the clouds that are there, what stands for them, and how far apart they are."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from trunkline_service.errors import Cancelled, InvalidArgument, NotEnoughData
from trunkline_service.explore.clusters import find_clusters, label_mix, representatives, silhouette_of


@pytest.mark.parametrize("compared", ["cosine", "euclidean"])
def test_the_clouds_are_found_and_their_number_too(make_live, clouds, compared):
    vectors, of = clouds([90, 60, 40, 30])
    labels = [f"kind {cloud}" for cloud in of]
    found = find_clusters(make_live(vectors, labels, compared=compared))
    assert found.chosen
    assert [cluster.rows for cluster in found.clusters] == [90, 60, 40, 30]
    assert found.silhouette is not None
    assert found.silhouette > 0.7
    for cloud, cluster in enumerate(found.clusters):
        assert cluster.number == cloud
        assert cluster.labels == ((f"kind {cloud}", cluster.rows),)
        assert cluster.labelled == cluster.rows
        members = np.flatnonzero(found.numbers == cloud)
        assert set(of[members].tolist()) == {cloud}
        rows = vectors[members].astype(np.float64)
        if compared == "cosine":
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        # The medoid by the measure that the mean is of: squared distances.
        total = ((rows[:, None] - rows[None]) ** 2).sum(axis=(1, 2))
        assert cluster.representatives[0].id == f"r{members[total.argmin()]}"
        assert len({row.id for row in cluster.representatives}) == 8
    assert found.ids.to_pylist()[:2] == ["r0", "r1"]


def test_a_number_that_is_given(make_live, clouds):
    vectors, _ = clouds([50, 50])
    found = find_clusters(make_live(vectors), 7)
    assert not found.chosen
    assert len(found.clusters) == 7
    assert sum(cluster.rows for cluster in found.clusters) == 100
    assert [cluster.rows for cluster in found.clusters] == np.bincount(found.numbers).tolist()
    again = find_clusters(make_live(vectors), 7)
    np.testing.assert_array_equal(found.numbers, again.numbers)


def test_silhouettes_are_those_of_scikit_learn(clouds):
    vectors, of = clouds([20, 15, 1, 7], spread=1.0)
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2).astype(np.float32)
    assert silhouette_of(distances, of.astype(np.int32)) == pytest.approx(
        silhouette_score(vectors, of), abs=1e-5
    )
    assert silhouette_of(distances, np.zeros(len(of), np.int32)) is None


@pytest.mark.parametrize("count", [None, 1])
def test_one_row(make_live, count):
    found = find_clusters(make_live([[1.0, 2.0]]), count)
    (cluster,) = found.clusters
    assert (cluster.rows, found.silhouette, [row.id for row in cluster.representatives]) == (1, None, ["r0"])


def test_equal_rows_are_one_cluster(make_live):
    found = find_clusters(make_live(np.ones((40, 3))))
    assert [cluster.rows for cluster in found.clusters] == [40]
    assert found.clusters[0].cohesion == pytest.approx(1.0)


def test_representatives_begin_in_the_middle_and_are_all_different():
    rows = np.arange(20, dtype=np.float32)[:, None]
    chosen = representatives(rows, -np.abs(rows[:, 0] - 10))
    assert chosen[0] == 10
    # Of the half around the middle, both ends come next.
    assert set(chosen[1:3].tolist()) == {5, 14} or set(chosen[1:3].tolist()) == {6, 15} or len(chosen) == 8
    assert len(set(chosen.tolist())) == 8
    assert (np.abs(chosen - 10) <= 5).all()


def test_a_row_counts_for_each_of_its_labels():
    assert label_mix([("a", "b"), ("b",), (), None]) == ((("b", 2), ("a", 1)), 3)
    assert label_mix([None, None]) == ((), 0)


@pytest.mark.parametrize("count", [0, -1, 6, 1001])
def test_a_number_that_can_not_be(make_live, count):
    with pytest.raises(InvalidArgument, match="5 rows make 1 to 5 clusters"):
        find_clusters(make_live(np.eye(5)), count)


def test_no_rows(make_live):
    with pytest.raises(NotEnoughData, match="no rows"):
        find_clusters(make_live(np.empty((0, 3))))


def test_it_ends_where_nobody_waits(make_live):
    def gone(stage, _share):
        if stage == "clustering":
            raise Cancelled("gone")

    with pytest.raises(Cancelled):
        find_clusters(make_live(np.eye(40)), told=gone)
