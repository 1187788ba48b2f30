"""Outliers: the same ones however they are found, with a reason that fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import Cancelled, InvalidArgument, NotEnoughData
from trunkline_service.explore.outliers import find_outliers, reason
from trunkline_service.index.workers import Workers


def farthest(vectors, k, compared):
    """Distances to the k-th other row, in double precision."""
    rows = vectors.astype(np.float64)
    euclidean = compared == "euclidean"
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2) if euclidean else 1 - rows @ rows.T
    np.fill_diagonal(apart, np.inf)
    return np.sort(apart, axis=1)[:, k - 1]


@pytest.mark.parametrize("compared", ["cosine", "euclidean"])
@pytest.mark.parametrize("whole_rows", [10, 10_000])
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 12))
def test_they_are_those_of_brute_force(make_live, clouds, compared, whole_rows, seed, k):
    vectors, _ = clouds([120, 60, 25, 6, 1], seed=seed, spread=0.5)
    live = make_live(vectors, compared=compared)
    found = find_outliers(live, 15, k, whole_rows=whole_rows, workers=Workers(2))
    wanted = farthest(live.vectors, k, compared) * live.unit
    ranked = np.sort(wanted)[::-1][:15]
    np.testing.assert_allclose([entry.distance for entry in found.outliers], ranked, atol=2e-5)
    for entry in found.outliers:
        assert entry.distance == pytest.approx(wanted[int(entry.row.id[1:])], abs=2e-5)
    assert found.usual == pytest.approx(float(np.median(wanted)), abs=2e-5)


def test_equal_rows_are_neighbours_of_each_other(make_live):
    vectors = np.concatenate([np.tile([[1.0, 0.0]], (30, 1)), [[0.0, 1.0]]])
    for whole_rows in (5, 100):
        found = find_outliers(make_live(vectors), 31, 5, whole_rows=whole_rows)
        assert [entry.distance for entry in found.outliers] == [1.0] + [0.0] * 30
        assert found.outliers[0].row.id == "r30"
        assert all(entry.nearest.id != entry.row.id for entry in found.outliers)
        assert found.usual == 0.0
        assert found.outliers[0].times == np.inf


def test_neighbours_are_at_most_all_others(make_live):
    found = find_outliers(make_live(np.eye(3)), 50, 10)
    assert (found.neighbours, len(found.outliers), found.rows) == (2, 3, 3)


def test_reasons():
    far = np.full(10, 0.6, np.float32)
    assert reason(None, far, [None] * 10, 0.2) == "nothing is like it: even the nearest row is 0.60 away"
    pair = np.array([0.05, 0.1, *[0.6] * 8], np.float32)
    assert reason(None, pair, [None] * 10, 0.2) == (
        "it stands apart together with 2 others: the next row is 0.60 away"
    )
    assert reason(None, pair[1:], [None] * 9, 0.2).startswith("it stands apart together with 1 other:")
    assert reason(None, far, [None] * 10, 0.6) == "no further from the others than is usual"
    said = reason("rose", far, ["tulip"] * 8 + ["rose", None], 0.2)
    assert said.endswith("; labelled rose, but 8 of its 10 nearest rows are tulip")
    for label, labels in (
        ("rose", ["tulip"] * 6 + ["rose"] * 4),
        ("tulip", ["tulip"] * 10),
        (None, ["a"] * 10),
    ):
        assert "labelled" not in reason(label, far, labels, 0.2)
    assert reason((), far, [("a", "b")] * 10, 0.2).endswith(
        "labelled (none), but 10 of its 10 nearest rows are a, b"
    )


@pytest.mark.parametrize(
    ("count", "neighbours", "words"),
    [(0, 10, "1 to 1,000"), (1001, 10, "1 to 1,000"), (5, 0, "1 to 100"), (5, 101, "1 to 100")],
)
def test_numbers_that_can_not_be(make_live, count, neighbours, words):
    with pytest.raises(InvalidArgument, match=words):
        find_outliers(make_live(np.eye(4)), count, neighbours)


@pytest.mark.parametrize("rows", [0, 1])
def test_one_row_is_no_outlier(make_live, rows):
    with pytest.raises(NotEnoughData, match=["has no rows", "has 1 row with"][rows]):
        find_outliers(make_live(np.ones((rows, 2))))


@pytest.mark.parametrize("whole_rows", [10, 1000])
def test_it_ends_where_nobody_waits(make_live, whole_rows):
    def gone(stage, _share):
        if stage == "comparing":
            raise Cancelled("gone")

    with pytest.raises(Cancelled):
        find_outliers(make_live(np.eye(60)), whole_rows=whole_rows, told=gone)
