"""Near duplicates: groups, what to keep, and how much is found where not all are compared with all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import Cancelled, InvalidArgument
from trunkline_service.explore import duplicates
from trunkline_service.explore.duplicates import find_duplicates, ids_to_delete, keepers
from trunkline_service.explore.pairs import Near
from trunkline_service.index.metric import prepared
from trunkline_service.index.workers import Workers


def turned(degrees):
    """Unit vectors of a plane, by angle."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def told_of(group):
    return [(copy.row.id, copy.keep, copy.like) for copy in group.copies]


def test_copies_and_what_to_keep(make_live):
    vectors = turned([0, 1, 90, 91, 92.5, 200])
    live = make_live(
        vectors,
        labels=[None, "x", "y", "y", "z", "x"],
        splits=["train", "test", None, "train", "train", None],
        sizes=[900, 10, 10, 30, 30, 5],
    )
    found = find_duplicates(live, 0.99)
    largest, smaller = found.groups
    # The larger of the labelled ones, and of equals the older one.
    assert told_of(largest) == [("r3", True, None), ("r2", False, "r3"), ("r4", False, "r3")]
    # A label counts more than the size of the file.
    assert told_of(smaller) == [("r1", True, None), ("r0", False, "r1")]
    assert (largest.labels_differ, largest.splits_differ) == (True, False)
    assert (smaller.labels_differ, smaller.splits_differ) == (False, True)
    assert [copy.row.size for copy in smaller.copies] == [10, 900]
    assert ids_to_delete(found.groups) == ["r2", "r4", "r0"]
    assert (found.pair_count, found.rows, found.exact, found.recall) == (4, 6, True, None)
    assert (found.pairs[0].first, found.pairs[0].second) in {("r0", "r1"), ("r2", "r3"), ("r3", "r4")}
    assert (found.collection, found.version, found.metric) == ("things", 3, "cosine")
    assert found.pairs[-1].score == pytest.approx(np.cos(np.deg2rad(2.5)), abs=1e-6)


def test_a_chain_is_one_group_and_keeps_what_is_near_to_none_that_is_kept(make_live):
    # Each is near the next one, and the ends are far from each other.
    live = make_live(turned([0, 5, 10, 15, 20]))
    (group,) = find_duplicates(live, float(np.cos(np.deg2rad(6)))).groups
    assert told_of(group) == [
        ("r0", True, None),
        ("r2", True, None),
        ("r4", True, None),
        ("r1", False, "r0"),
        ("r3", False, "r2"),
    ]


def test_groups_of_the_nearest_pairs_come_first_whatever_is_kept_of_them(make_live):
    # A chain of look-alikes; rows that all go for a better one, but two of which are copies; a pair of copies.
    live = make_live(turned([0, 5, 10, 15, 100, 103, 103, 200, 200]))
    found = find_duplicates(live, float(np.cos(np.deg2rad(6))))
    assert [group.copies[0].row.id for group in found.groups] == ["r4", "r7", "r0"]
    assert [len(group.copies) for group in found.groups] == [3, 2, 4]


@given(count=st.integers(0, 60), seed=st.integers(0, 2**32 - 1), threshold=st.floats(0.2, 0.99))
def test_every_row_that_goes_is_near_one_that_stays_and_those_that_stay_are_not(count, seed, threshold):
    generator = np.random.default_rng(seed)
    vectors = prepared(generator.normal(size=(count, 3)).astype(np.float32), "cosine")
    near = Near(vectors, "cosine", threshold)
    ranked = generator.permutation(count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_TOGETHER", 4)
        like, scores = keepers(near, ranked)
    kept = like < 0
    cosines = vectors[ranked] @ vectors[ranked].T
    assert (like[~kept] >= 0).all()
    assert kept[like[~kept]].all()
    np.testing.assert_allclose(scores[~kept], cosines[np.flatnonzero(~kept), like[~kept]], atol=1e-5)
    assert (scores[~kept] >= np.float32(threshold - 1e-6)).all()
    among = cosines[np.ix_(kept, kept)]
    np.fill_diagonal(among, -1)
    assert (among < threshold + 1e-5).all()
    if count:
        assert kept[0]


def test_many_rows_are_compared_with_near_ones_and_the_recall_is_measured(make_live):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(3000, 24)).astype(np.float32)
    copies = generator.choice(1500, 600, replace=False)
    vectors[1500:2100] = vectors[copies] + 0.04 * generator.normal(size=(600, 24))
    live = make_live(vectors)
    whole = find_duplicates(live, 0.97)
    part = find_duplicates(live, 0.97, exact_rows=100, workers=Workers(2))
    assert (whole.exact, part.exact) == (True, False)
    assert whole.pair_count >= 600
    pairs = {(pair.first, pair.second): pair.score for pair in whole.pairs}
    some = {(pair.first, pair.second): pair.score for pair in part.pairs}
    # Nothing is made up, nothing is told twice, and a score does not depend on how it was found.
    assert len(some) == len(part.pairs) == part.pair_count
    assert some.items() <= pairs.items()
    assert part.recall is not None
    assert part.recall_pairs > 50
    assert len(some) / len(pairs) == pytest.approx(part.recall, abs=0.06)
    assert part.recall > 0.9
    assert find_duplicates(live, 0.97, exact=True, exact_rows=100).pairs == whole.pairs


def test_a_sample_without_pairs_measures_nothing(make_live):
    live = make_live(np.eye(64))
    found = find_duplicates(live, 0.9, exact_rows=10)
    assert (found.pair_count, found.groups, found.recall, found.recall_pairs) == (0, (), None, 0)


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_rows(make_live, rows):
    found = find_duplicates(make_live(np.ones((rows, 3))))
    assert (found.rows, found.pair_count, found.groups) == (rows, 0, ())


def test_labels_of_rows_with_several(make_live):
    live = make_live(np.ones((3, 2)), labels=[["a", "b"], None, []])
    (group,) = find_duplicates(live).groups
    assert group.labels_differ
    assert {copy.row.label for copy in group.copies} == {("a", "b"), None, ()}
    # The one that nobody labelled is not kept.
    assert [copy.row.id for copy in group.copies if copy.keep] == ["r0"]


def test_distances_are_compared_where_the_metric_is_one(make_live):
    live = make_live([[0, 0], [0, 3], [0, 5], [9, 9]], compared="euclidean")
    found = find_duplicates(live, -3.0)
    assert [(pair.first, pair.second, pair.score) for pair in found.pairs] == [
        ("r1", "r2", -2.0),
        ("r0", "r1", -3.0),
    ]
    for threshold in (None, 0.5, float("nan")):
        with pytest.raises(InvalidArgument, match="minus the distance"):
            find_duplicates(live, threshold)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_is_no_cosine(make_live, threshold):
    with pytest.raises(InvalidArgument, match="give a cosine above 0 and up to 1"):
        find_duplicates(make_live(np.eye(2)), threshold)


@pytest.mark.parametrize("exact_rows", [10, 10_000])
def test_it_ends_where_nobody_waits(make_live, exact_rows):
    def gone(stage, _share):
        if stage == "comparing":
            raise Cancelled("gone")

    with pytest.raises(Cancelled):
        find_duplicates(make_live(np.eye(300)), exact_rows=exact_rows, told=gone)
