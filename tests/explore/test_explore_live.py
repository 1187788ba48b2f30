"""Rows as they are read: of one version, of a condition, in the form that they are compared in."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument
from trunkline_service.explore.live import bring_in_range, distance_words, label_words, read_live

SPEC = CollectionSpec(space_id="sp1-mine", dim=2, model="m@1", artifact_id="ar1-0", decode="exact")


@pytest.fixture
def store(tmp_path):
    store = CollectionStore(tmp_path / "data")
    rows = [
        Row("a", np.array([3, 4], np.float32), label="x", split="train", source="/a", size=7, decode="exact"),
        Row("bad", None, status="error", error="corrupt_image: no", decode="exact", size=9),
        Row("b", np.array([0, 0], np.float32), source="/b", decode="exact"),
    ]
    store.create("things", SPEC).upsert(rows, space_id=SPEC.space_id, decode="exact")
    return store


def test_a_version_with_its_texts_and_sizes(store):
    version = store.open("things").version
    store.open("things").upsert(
        [Row("c", np.array([1, 0], np.float32), decode="exact")], space_id=SPEC.space_id, decode="exact"
    )
    assert len(read_live(store.resolve("things"))) == 3
    live = read_live(store.resolve(f"things@{version}"))
    assert (live.name, live.version, len(live), live.compared) == ("things", version, 2, "cosine")
    np.testing.assert_allclose(live.vectors, [[0.6, 0.8], [0, 0]], atol=1e-7)
    sizes = live.read_sizes()
    assert sizes.tolist() == [7, -1]
    first, second = live.seen([0, 1], sizes)
    assert dataclasses.astuple(first) == ("a", "x", "train", "/a", 7)
    assert dataclasses.astuple(second) == ("b", None, None, "/b", None)
    assert live.seen([1])[0].id == "b"
    assert live.labels_of() == ["x", None]


def test_a_condition(store):
    live = read_live(store.resolve("things"), "label = ?", ["x"])
    assert live.ids.to_pylist() == ["a"]
    assert live.read_sizes().tolist() == [7]
    assert len(read_live(store.resolve("things"), "label = ?", ["' OR true OR '"])) == 0
    with pytest.raises(InvalidArgument, match="nothing"):
        read_live(store.resolve("things"), "nothing = 1")
    with pytest.raises(InvalidArgument):
        read_live(store.resolve("things"), "label = ?")


def test_distances_are_of_vectors_as_they_are(store, make_live):
    assert make_live([[3.0, 4.0]], compared="euclidean").compared == "euclidean"
    # A product of two vectors says nothing of how alike they are.
    assert make_live([[3.0, 4.0]], compared="dot").compared == "cosine"


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_long_vectors_are_brought_into_range(tmp_path, metric):
    store = CollectionStore(tmp_path / "data")
    rows = [Row("a", np.array([3e25, 4e25], np.float32), decode="exact")]
    spec = dataclasses.replace(SPEC, metric=metric)
    store.create("long", spec).upsert(rows, space_id=spec.space_id, decode="exact")
    live = read_live(store.resolve("long"))
    if metric == "cosine":
        assert live.unit == 1
        assert np.linalg.norm(live.vectors[0]) == pytest.approx(1)
    else:
        assert float(live.vectors.max()) < 2**33
        np.testing.assert_array_equal(live.measured(live.vectors), [rows[0].embedding])


@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8),
    power=st.integers(-149, 127),
)
def test_bringing_in_range_loses_nothing(values, power):
    # Of values that differ by less than the range that float32 has for each.
    stored = np.array([[value] for value in values], np.float32).clip(-1.5, 1.5)
    stored[np.abs(stored) < 2**-100] = 0
    stored = np.ldexp(stored, power)
    vectors = stored.copy()
    unit = bring_in_range(vectors)
    assert not vectors.any() or 2**31 <= np.abs(vectors).max() < 2**32
    np.testing.assert_array_equal(vectors.astype(np.float64) * unit, stored.astype(np.float64))


def test_distances_in_words():
    words = [distance_words(distance) for distance in (0, 0.014, 12.345, 3.3e25, 4e-25)]
    assert words == ["0.00", "0.01", "12.35", "3.3e+25", "4e-25"]


def test_labels_in_words():
    assert [label_words(label) for label in ("x", None, (), ("a", "b"))] == ["x", "(none)", "(none)", "a, b"]
