"""From what a caller sent and the engine gave to rows: what the caller did not say stays."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.batching.engine import Embedded
from trunkline_service.batching.request import Timings
from trunkline_service.collections.arrivals import (
    NewRow,
    arriving_rows,
    brings_lists,
    check_labels,
    could_lose,
)
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CorruptImage, DeadlineExpired, InvalidArgument, TrunklineError
from trunkline_service.images.inputs import EncodedImage

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BAD = CorruptImage("damaged")
# What a row says of itself beside its image: label, split, metadata.
Said = tuple[Any, Any, Mapping[str, Any]]


def embedded(count: int, errors: Mapping[int, TrunklineError] | None = None) -> Embedded:
    vectors = np.arange(count * 4, dtype=np.float32).reshape(count, 4)
    return Embedded(vectors, errors or {}, None, "exact", Timings())  # type: ignore[arg-type]


def new(
    row_id: str, label: Any = None, split: Any = None, metadata: Mapping[str, Any] | None = None
) -> NewRow:
    return NewRow(EncodedImage(b"image"), row_id, label, "", split, metadata or {})


def known(label: Any = "x", split: Any = "train", metadata: Mapping[str, Any] | None = None) -> Row:
    own = {"n": 1, "s": "one"} if metadata is None else metadata
    return Row("a", np.ones(4, np.float32), label, split, metadata=own, embedded_at=NOON)


def arriving(rows: list[NewRow], before: Row | None = None, **errors: TrunklineError) -> list[Row]:
    failed = {int(name[1:]): error for name, error in errors.items()}
    there = {} if before is None else {before.id: before}
    ids = [row.id for row in rows]
    return arriving_rows(rows, ids, ["hash"] * len(rows), embedded(len(rows), failed), there)


def said(row: Row) -> Said:
    return row.label, row.split, dict(row.metadata)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (new("a"), ("x", "train", {"n": 1, "s": "one"})),
        (new("a", label="y"), ("y", "train", {"n": 1, "s": "one"})),
        (new("a", label=()), ((), "train", {"n": 1, "s": "one"})),
        (new("a", split=""), ("x", "", {"n": 1, "s": "one"})),
        (new("a", metadata={"n": 2, "t": True}), ("x", "train", {"n": 2, "s": "one", "t": True})),
        (new("a", metadata={"n": None}), ("x", "train", {"n": None, "s": "one"})),
        (new("b"), (None, None, {})),
    ],
    ids=str,
)
def test_what_is_not_said_is_taken_from_the_known_row(row: NewRow, expected: Said) -> None:
    (after,) = arriving([row], known())
    assert said(after) == expected
    assert (after.status, after.embedded_at) == ("ok", None)


def test_an_error_row_keeps_what_people_said_of_it() -> None:
    before = Row("a", None, "x", "train", status="error", error="bad", metadata={"n": 1}, embedded_at=NOON)
    for errors in ({}, {"_0": BAD}):
        (after,) = arriving([new("a", split="test")], before, **errors)
        assert said(after) == ("x", "test", {"n": 1})
        assert after.status == ("error" if errors else "ok")
        assert after.embedded_at is None


@pytest.mark.parametrize("error", [BAD, DeadlineExpired("late")])
def test_a_good_row_is_not_replaced_by_an_image_that_failed(error: TrunklineError) -> None:
    assert arriving([new("a", "y")], known(), _0=error) == []


def test_what_failed_for_a_reason_that_passes_is_no_row() -> None:
    assert arriving([new("a")], _0=DeadlineExpired("late")) == []
    assert [row.status for row in arriving([new("a")], _0=BAD)] == ["error"]


def test_an_id_that_comes_twice_is_one_row_that_has_what_either_said() -> None:
    (after,) = arriving([new("a", "y", metadata={"n": 2}), new("a", None, "test", {"m": 3})], known())
    assert said(after) == ("y", "test", {"n": 2, "s": "one", "m": 3})
    np.testing.assert_array_equal(after.embedding, [4, 5, 6, 7])
    (after,) = arriving([new("a", "y"), new("a", "z")], _1=BAD)
    assert (after.label, after.status) == ("y", "ok")


names = st.sampled_from("npq")
things = st.tuples(
    st.none() | st.sampled_from("xy"),
    st.none() | st.sampled_from(["train", ""]),
    st.dictionaries(names, st.none() | st.integers(0, 3), max_size=3),
)


@given(st.lists(st.tuples(st.sampled_from("ab"), things, st.booleans()), max_size=6), things, st.booleans())
def test_rows_that_need_no_look_up_are_the_same_without_it(
    items: list[tuple[str, Any, bool]], before: Any, good: bool
) -> None:
    """The law of `could_lose`; the known row may have a value in every column."""
    rows = [new(row_id, *said_) for row_id, said_, _ok in items]
    failed: dict[int, TrunklineError] = {index: BAD for index, (_id, _said, ok) in enumerate(items) if not ok}
    ids, answers = [row.id for row in rows], embedded(len(rows), failed)
    vector, status, error = (np.ones(4, np.float32), "ok", None) if good else (None, "error", "bad")
    own = dict.fromkeys("npq", 9) | before[2]
    there = {
        row_id: Row(row_id, vector, *before[:2], status=status, error=error, metadata=own)  # type: ignore[arg-type]
        for row_id in "ab"
    }
    looked_up = {ids[index] for index in could_lose(rows, answers, own)}
    some = {row_id: row for row_id, row in there.items() if row_id in looked_up}
    in_full = arriving_rows(rows, ids, ids, answers, there)
    assert list(map(content, arriving_rows(rows, ids, ids, answers, some))) == list(map(content, in_full))


def content(row: Row) -> tuple[Any, ...]:
    vector = None if row.embedding is None else row.embedding.tolist()
    return row.id, vector, row.status, *said(row)


def test_only_a_row_that_says_everything_needs_no_look_up() -> None:
    rows = [
        new("a", "x", "train", {"n": None}),
        new("b", "x", "train"),
        new("c", None, "train", {"n": 1}),
        new("d", "x", None, {"n": 1}),
        new("e", (), "", {"n": 1, "m": 2}),
        new("f", "x", "train", {"n": 1}),
    ]
    assert could_lose(rows, embedded(6, {5: BAD}), ["n"]) == [1, 2, 3, 5]
    assert could_lose(rows, embedded(6), []) == [2, 3]


def test_labels_are_of_one_kind() -> None:
    assert brings_lists([new("a", ("x",)), new("b"), new("c", ())])
    assert not brings_lists([new("a", "x"), new("b")])
    assert not brings_lists([])
    with pytest.raises(InvalidArgument, match="no collection holds both"):
        brings_lists([new("a", ("x",)), new("b", "x")])
    check_labels([new("a", ("x",)), new("b")], True)
    with pytest.raises(InvalidArgument, match=r"'b'.*lists of labels"):
        check_labels([new("a"), new("b", "x")], True)
    with pytest.raises(InvalidArgument, match=r"item 1.*one label"):
        check_labels([new("a"), new("", ("x",))], False)


def test_a_row_that_is_embedded_again_says_when(tmp_path: Path, spec: CollectionSpec) -> None:
    moments = iter([NOON, NOON + timedelta(hours=1)])
    store = CollectionStore(tmp_path, clock=lambda: NOON)
    collection = store.create("flowers", spec)
    later = CollectionStore(tmp_path, clock=lambda: NOON + timedelta(hours=1)).open("flowers")
    for opened in (collection, later):
        rows = arriving([new("a")], collection.find(["a"]).get("a"))
        opened.upsert(rows, space_id="sp1-a", decode="exact")
        assert opened.get(["a"])[0].embedded_at == next(moments)
