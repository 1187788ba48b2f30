"""Vectors as long or as short as float32 holds: what is found does not depend on it."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from trunkline_service.explore.clusters import find_clusters
from trunkline_service.explore.duplicates import find_duplicates
from trunkline_service.explore.layout import draw_map
from trunkline_service.explore.outliers import find_outliers

LARGEST = float(np.finfo(np.float32).max)
POWERS = (-118, -70, 60, 120)


@pytest.fixture
def lengths(make_live, clouds):
    """``lengths(power)``: the same rows, 20 of them twice, times a power of two."""
    vectors, _ = clouds([60, 50, 40], dim=8, spread=0.4)
    vectors = np.concatenate([vectors, vectors[:20]])

    def make(power, compared="euclidean"):
        return make_live(np.ldexp(vectors, power), compared=compared)

    return make


@pytest.fixture(autouse=True)
def no_overflow():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("exact_rows", [10, 1000])
def test_duplicates(lengths, power, exact_rows):
    for threshold in (0.0, -0.2):
        usual = find_duplicates(lengths(0), threshold, exact_rows=exact_rows)
        found = find_duplicates(lengths(power), math.ldexp(threshold, power), exact_rows=exact_rows)
        assert found.pair_count == usual.pair_count >= 20
        assert [pair.score for pair in found.pairs] == (
            [math.ldexp(pair.score, power) for pair in usual.pairs]
        )
        assert [[copy.row.id for copy in group.copies] for group in found.groups] == (
            [[copy.row.id for copy in group.copies] for group in usual.groups]
        )
        assert [copy.score and math.ldexp(copy.score, -power) for copy in found.groups[-1].copies] == (
            [copy.score for copy in usual.groups[-1].copies]
        )


def test_short_rows_among_long_ones_are_told_apart(make_live):
    # Their squares are nothing in single precision, beside the others and by themselves.
    short = np.random.default_rng(0).normal(size=(40, 4)) * 1e-20
    live = make_live(np.concatenate([short, short[:3], [[1e10] * 4]]), compared="euclidean")
    assert find_duplicates(live, 0.0).pair_count == 3


@pytest.mark.parametrize("threshold", [-3e38, -1e300])
def test_a_distance_that_all_rows_are_within(lengths, threshold):
    assert find_duplicates(lengths(0), threshold).pair_count == 170 * 169 / 2


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("whole_rows", [10, 1000])
def test_outliers(lengths, power, whole_rows):
    usual = find_outliers(lengths(0), 5, whole_rows=whole_rows)
    found = find_outliers(lengths(power), 5, whole_rows=whole_rows)
    assert found.usual == math.ldexp(usual.usual, power)
    for ours, theirs in zip(found.outliers, usual.outliers, strict=True):
        assert (ours.row, ours.times, ours.nearest) == (theirs.row, theirs.times, theirs.nearest)
        assert ours.distance == math.ldexp(theirs.distance, power)
        assert ours.nearest_distance == math.ldexp(theirs.nearest_distance, power)
        assert "e+" in ours.reason or "e-" in ours.reason


@pytest.mark.parametrize("power", POWERS)
def test_clusters(lengths, power):
    usual, found = find_clusters(lengths(0)), find_clusters(lengths(power))
    assert len(found.clusters) == 3
    assert found.silhouette == usual.silhouette
    np.testing.assert_array_equal(found.numbers, usual.numbers)
    assert [cluster.cohesion for cluster in found.clusters] == (
        [math.ldexp(cluster.cohesion, power) for cluster in usual.clusters]
    )


@pytest.mark.parametrize("power", POWERS)
def test_a_map(lengths, power):
    usual, found = draw_map(lengths(0)), draw_map(lengths(power))
    assert found.explained == usual.explained
    np.testing.assert_array_equal(found.places, np.ldexp(usual.places, power))


def test_distances_that_float32_has_no_room_for_are_the_largest_that_it_does(make_live):
    corners = np.where(np.random.default_rng(0).random((60, 16)) < 0.5, -3e38, 3e38)
    live = make_live(corners, compared="euclidean")
    found = find_outliers(live)
    assert (found.usual, found.outliers[0].distance) == (LARGEST, LARGEST)
    assert 1 <= found.outliers[0].times < 2
    assert find_clusters(live).silhouette is not None
    chart = draw_map(live)
    assert LARGEST / 4 < np.abs(chart.places).max() <= LARGEST
    # Rows of all distances are within it, and none of them is infinitely far.
    pairs = find_duplicates(live, -LARGEST * 10)
    assert (pairs.pair_count, pairs.pairs[-1].score) == (60 * 59 / 2, -LARGEST)


@pytest.mark.parametrize("power", POWERS)
def test_cosines_have_no_length(lengths, power):
    usual, found = (find_duplicates(lengths(each, "cosine"), 0.99) for each in (0, power))
    assert found.pairs == usual.pairs
