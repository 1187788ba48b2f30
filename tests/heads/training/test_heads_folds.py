from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.training.folds import stratified_folds, usable_folds

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
