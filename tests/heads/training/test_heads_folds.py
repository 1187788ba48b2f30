from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import InvalidArgument, NotEnoughData
from trunkline_service.heads.training.folds import for_large, make_folds, stratified_folds, usable_folds
from trunkline_service.heads.training.training_set import TrainingSet

counts_of_classes = st.lists(st.integers(2, 30), min_size=2, max_size=6)


@given(counts_of_classes, st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_folds_are_balanced_and_leave_every_class_to_learn(counts: list[int], wanted: int, seed: int) -> None:
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    folds, note = usable_folds(codes, wanted)
    assert folds == max(2, min(wanted, *counts))
    assert (note is None) == (folds == wanted)
    assigned = stratified_folds(codes, folds, seed)
    assert assigned.shape == codes.shape
    sizes = np.bincount(assigned, minlength=folds)
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1
    for k, count in enumerate(counts):
        within = np.bincount(assigned[codes == k], minlength=folds)
        assert within.max() - within.min() <= 1
        assert within.max() < count


def test_the_seed_decides() -> None:
    codes = np.repeat([0, 1], 20)
    first = stratified_folds(codes, 5, seed=1)
    np.testing.assert_array_equal(first, stratified_folds(codes, 5, seed=1))
    assert (first != stratified_folds(codes, 5, seed=2)).any()


def test_fewer_folds_are_said() -> None:
    folds, note = usable_folds(np.repeat([0, 1], [3, 50]), 5)
    assert folds == 3
    assert note == "evaluated with 3 folds instead of 5: the smallest class has 3 rows"


@pytest.mark.parametrize("wanted", [1, 0, -2, 2.5, True, "5"])
def test_folds_that_cannot_be(wanted: int) -> None:
    with pytest.raises(InvalidArgument, match="must be an integer from 2 on"):
        usable_folds(np.repeat([0, 1], 5), wanted)


def make(labels: Any, task: Any = "single-label", **more: Any) -> TrainingSet:
    """A set whose embeddings are all different and few-dimensional, so that only ``groups`` join rows."""
    embeddings = more.pop("embeddings", np.arange(len(labels) * 2, dtype=np.float32).reshape(-1, 2))
    return TrainingSet(embeddings, labels, "sp1-a", "photos", 1, "m@1", task=task, **more)


@given(counts_of_classes, st.integers(2, 8), st.integers(0, 100))
def test_without_groups_they_are_the_plain_stratified_ones(counts: list[int], wanted: int, seed: int) -> None:
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    found = make_folds(make([f"c{k}" for k in codes]), wanted, seed)
    count, note = usable_folds(codes, wanted)
    assert found.count == count
    assert found.notes == ((note,) if note else ())
    np.testing.assert_array_equal(found.assigned, stratified_folds(codes, count, seed))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(10, 80), st.integers(2, 4), st.integers(2, 30), st.integers(2, 6)
)
def test_groups_are_never_split(seed: int, rows: int, classes: int, groups: int, wanted: int) -> None:
    generator = np.random.default_rng(seed)
    labels = [f"c{k}" for k in generator.integers(0, classes, rows)]
    of = [None if g == 0 else f"g{g}" for g in generator.integers(0, groups, rows)]
    try:
        data = make(labels, groups=of)
    except NotEnoughData:
        return
    if data.grouping.count < 2:
        return
    found = make_folds(data, wanted, seed)
    assert 2 <= found.count <= max(2, wanted)
    assert set(found.assigned.tolist()) == set(range(found.count))
    for group in set(data.groups or ()) - {None}:
        assert len({f for f, g in zip(found.assigned, data.groups or (), strict=True) if g == group}) == 1
    np.testing.assert_array_equal(make_folds(data, wanted, seed).assigned, found.assigned)


def test_groups_of_a_kind_are_dealt_out_evenly() -> None:
    # 60 patients of 4 images, 20 of each class, and 50 rows of nobody.
    labels = [f"c{p % 3}" for p in range(60) for _ in range(4)] + [f"c{i % 2}" for i in range(50)]
    groups = [f"p{p}" for p in range(60) for _ in range(4)] + [None] * 50
    data = make(labels, groups=groups)
    found = make_folds(data, 5, seed=3)
    table = np.zeros((5, 3), int)
    np.add.at(table, (found.assigned, data.codes()), 1)
    assert found.count == 5
    assert (table == [[21, 21, 16]] * 5).all()
    assert (make_folds(data, 5, seed=4).assigned != found.assigned).any()


def test_single_rows_level_what_groups_left_uneven() -> None:
    labels = ["a"] * 7 + ["a"] * 8 + ["b"] * 15
    data = make(labels, groups=["big"] * 7 + [None] * 23)
    found = make_folds(data, 3, seed=0)
    of_a = np.bincount(found.assigned[:15], minlength=3)
    assert sorted(of_a.tolist()) == [4, 4, 7]
    sizes = np.bincount(found.assigned)
    assert sorted(sizes.tolist()) == [9, 9, 12]


def test_fewer_groups_than_folds_are_said() -> None:
    labels = ["a", "a", "b", "b"] * 5
    data = make(labels, groups=["g", "h", "g", "h"] * 5)
    found = make_folds(data, 5, seed=0)
    assert found.count == 2
    assert "evaluated with 2 folds instead of 5: the smallest class has 2 groups" in found.notes[0]


def test_a_class_of_one_group_is_noted() -> None:
    labels = ["a"] * 6 + ["b"] * 6 + ["c"] * 3
    groups = [None] * 12 + ["p"] * 3
    found = make_folds(make(labels, groups=groups), 3, seed=0)
    assert found.count == 3
    assert "1 classes have all their rows on one side of a split" in found.notes[-1]
    assert "'c'" in found.notes[-1]


def test_one_group_alone_cannot_be_split() -> None:
    with pytest.raises(NotEnoughData, match="all 4 rows of collection 'photos' are of one group"):
        make_folds(make(["a", "a", "b", "b"], groups=["g"] * 4), 2, seed=0)


def test_duplicates_share_a_fold() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    rows[20:] = rows[:20] + np.float32(1e-4)
    data = make(["a", "b"] * 20, embeddings=rows)
    found = make_folds(data, 5, seed=0)
    np.testing.assert_array_equal(found.assigned[:20], found.assigned[20:])
    assert "20 groups of duplicates and near duplicates (40 rows)" in found.notes[0]
    apart = make_folds(make(["a", "b"] * 20, embeddings=rows, duplicates=False), 5, seed=0)
    np.testing.assert_array_equal(apart.assigned, stratified_folds(data.codes(), 5, seed=0))


def test_a_validation_split_is_the_one_fold() -> None:
    mask = np.array([False, True] * 4)
    found = make_folds(make(["a", "a", "b", "b"] * 2, validation=mask), 5, seed=0)
    assert found.count == 1
    np.testing.assert_array_equal(found.assigned, np.where(mask, 0, -1))
    assert found.notes == ("evaluated on the 4 rows of the validation split instead of folds",)


def test_a_validation_split_that_repeats_what_was_learned() -> None:
    embeddings = np.arange(16, dtype=np.float32).reshape(8, 2)
    embeddings[1] = embeddings[0]
    mask = np.array([False, True] * 4)
    data = make(["a", "a", "b", "b", "a", "c", "b", "c"], embeddings=embeddings, validation=mask)
    found = make_folds(data, 5, seed=0)
    assert "1 rows of the validation split have a duplicate" in found.notes[1]
    assert "judged by what never saw them: 'c'" in found.notes[2]


def test_a_set_of_validation_rows_alone() -> None:
    with pytest.raises(NotEnoughData, match="all 4 rows of collection 'photos' are of the validation split"):
        make_folds(make(["a", "a", "b", "b"], validation=np.ones(4, bool)), 2, seed=0)


def test_multi_label_folds_spread_rare_classes() -> None:
    generator = np.random.default_rng(0)
    labels = [
        tuple(c for c, p in (("often", 0.5), ("rare", 0.1)) if generator.random() < p) for _ in range(200)
    ]
    data = make(labels, "multi-label")
    found = make_folds(data, 5, seed=0)
    assert np.bincount(found.assigned).tolist() == [40] * 5
    per_fold = np.stack([data.indicator()[found.assigned == f].sum(axis=0) for f in range(5)])
    assert np.ptp(per_fold[:, data.classes.index("rare")]) <= 1
    assert found.notes == ()


def test_a_class_of_two_rows_does_not_cut_multi_label_folds_short() -> None:
    labels = [("a",), ("a",), *[()] * 10, *[("b",)] * 8]
    found = make_folds(make(labels, "multi-label"), 5, seed=0)
    assert (found.count, found.notes) == (5, ())


def test_regression_folds_have_like_values() -> None:
    values = np.random.default_rng(0).permutation(100).astype(float)
    found = make_folds(make(values, "regression"), 5, seed=0)
    assert np.bincount(found.assigned).tolist() == [20] * 5
    means = [values[found.assigned == f].mean() for f in range(5)]
    assert np.ptp(means) < 6


def test_anomaly_folds_spread_what_is_known() -> None:
    data = make(["bad"] * 5 + [None] * 20, "anomaly")
    found = make_folds(data, 5, seed=0)
    assert np.bincount(found.assigned[:5], minlength=5).tolist() == [1] * 5
    few = make_folds(make([None] * 4, "anomaly"), 5, seed=0)
    assert few.count == 4
    assert few.notes == (
        "evaluated with 4 folds instead of 5: there are 4 groups of rows that stay together",
    )


@pytest.mark.parametrize("wanted", [1, True, 2.5])
def test_made_folds_that_cannot_be(wanted: int) -> None:
    with pytest.raises(InvalidArgument, match="must be an integer from 2 on"):
        make_folds(make(["a", "a", "b", "b"]), wanted, seed=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(20, 80), st.integers(2, 30))
def test_one_part_of_large_data_holds_whole_groups(seed: int, most: int, rows: int, groups: int) -> None:
    generator = np.random.default_rng(seed)
    labels = [f"c{k % 3}" for k in range(rows)]
    of = [None if g == 0 else f"g{g}" for g in generator.integers(0, groups, rows)]
    data = make(labels, groups=of)
    if data.grouping.count < 2:
        return
    folds = make_folds(data, 4, 0)
    found = for_large(data, folds, most, seed)
    held = found.assigned == 0
    assert found.count == 1
    assert set(found.assigned.tolist()) == {0, -1}
    assert (folds.assigned[held] == 0).all()
    codes = data.group_codes()
    assert not set(codes[held].tolist()) & set(codes[~held].tolist())
    # One group that is too large by itself is held out all the same.
    assert held.sum() <= most or len(set(codes[held].tolist())) == 1
    fits = np.bincount(codes[folds.assigned == 0])
    left = np.setdiff1d(codes[folds.assigned == 0], codes[held])
    assert held.sum() > most or all(held.sum() + fits[group] > most for group in left)
    np.testing.assert_array_equal(for_large(data, folds, most, seed).assigned, found.assigned)


def test_the_rows_held_out_of_large_data_are_drawn_from_everywhere() -> None:
    data = make(["a"] * 500 + ["b"] * 500)
    folds = make_folds(data, 5, seed=0)
    found = for_large(data, folds, 100, seed=0)
    held = np.flatnonzero(found.assigned == 0)
    assert len(held) == 100
    assert 25 < (held < 500).sum() < 75
    assert found.notes == ("evaluated on 100 of 1000 rows that were held out once, instead of 5 folds",)
    assert (for_large(data, folds, 100, seed=1).assigned != found.assigned).any()


def test_few_rows_of_a_fold_are_all_held_out() -> None:
    data = make(["a", "b"] * 10)
    folds = make_folds(data, 5, seed=0)
    found = for_large(data, folds, 4, seed=0)
    np.testing.assert_array_equal(found.assigned, np.where(folds.assigned == 0, 0, -1))


def test_notes_on_large_data_are_of_the_part_that_is_held_out() -> None:
    # Both classes have one group, so that each is missing from what one of two folds learns from.
    data = make(["a"] * 6 + ["b"] * 6 + ["c"] * 8, groups=["g"] * 6 + ["h"] * 6 + [None] * 8)
    folds = make_folds(data, 2, seed=0)
    assert "2 classes have all their rows on one side" in folds.notes[-1]
    missing = {label for label, fold in zip("ab", folds.assigned[[0, 6]], strict=True) if fold == 0}
    found = for_large(data, folds, 100, seed=0)
    assert [note for note in found.notes if "on one side of a split" in note] == [
        f"1 classes have all their rows on one side of a split, and are judged by what never saw them: {label!r}"
        for label in missing
    ]


def test_a_validation_split_of_large_data_stays_as_it_is() -> None:
    mask = np.array([False, True] * 4)
    data = make(["a", "a", "b", "b"] * 2, validation=mask)
    folds = make_folds(data, 5, seed=0)
    assert for_large(data, folds, 1, seed=0) is folds


def test_the_rarest_class_of_a_row_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    from trunkline_service.heads.training import folds

    indicator = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0]], bool)
    for rows in (2, 100):
        monkeypatch.setattr(folds, "_CHUNK_ROWS", rows)
        assert folds._rarest(indicator).tolist() == [1, 0, 1, 3, 2]
