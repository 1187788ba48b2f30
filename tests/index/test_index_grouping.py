"""Rows of each value, one value after the other."""

from __future__ import annotations

import tracemalloc
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.index.points import segment, view_of

from trunkline_service.index.grouping import Groups, LabelGroups, apart


class Codes:
    """Values that are numbers."""

    def __init__(self, codes: NDArray[np.int64]) -> None:
        self.codes = codes


@pytest.mark.parametrize("filters", [False, True])
def test_each_row_is_of_one_value_and_those_without_come_last(filters: bool) -> None:
    labels = ["a", None, "b", "a", None, "c", "b"]
    vectors = np.eye(7, dtype=np.float32)
    view = view_of(segment(vectors[:4], labels[:4]), segment(vectors[4:], labels[4:], 4))
    allowed = view.split(np.arange(7) != 3) if filters else None
    each = apart(view, LabelGroups(view), allowed)
    assert each is not None
    found = [(np.flatnonzero(np.concatenate(rows)).tolist(), valued) for rows, valued in each]
    first = [0] if filters else [0, 3]
    assert found == [(first, True), ([2, 6], True), ([5], True), ([1, 4], False)]


def test_the_rows_of_many_values_are_not_held_at_once() -> None:
    rows = 100_000
    view = view_of(segment(np.ones((rows, 1), np.float32)))
    each = apart(view, cast("Groups", Codes(np.arange(rows) % 250)), None)
    assert each is not None
    tracemalloc.start()
    try:
        count = sum(1 for _ in each)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 251
    # A byte a row each, of which a few are there at a time.
    assert most < 10 * rows
