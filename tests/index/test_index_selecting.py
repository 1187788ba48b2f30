"""Conditions become masks, are asked of the store once a version, and keep nothing else in memory."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.index.points import SPEC, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.filters import bind
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.rows import Row
from trunkline_service.collections.store import CollectionStore
from trunkline_service.collections.tokens import Bound
from trunkline_service.errors import InvalidArgument, StorageError
from trunkline_service.index import selecting
from trunkline_service.index.following import flat_view, follow
from trunkline_service.index.selecting import Selector
from trunkline_service.index.view import Mask, View


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    return CollectionStore(tmp_path)


@pytest.fixture
def collection(store: CollectionStore) -> Collection:
    made = store.create("points", SPEC)
    write(made, a1=0, b1=1, a2=2, b2=3, a3=4)
    return made


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the store was asked."""
    calls: list[str] = []
    row_ids = Collection.row_ids

    def counted(self: Collection, where: str, *arguments: Any, **options: Any) -> Any:
        calls.append(where)
        return row_ids(self, where, *arguments, **options)

    monkeypatch.setattr(Collection, "row_ids", counted)
    return lambda: len(calls)


def named(view: View, masks: tuple[Mask, ...] | None) -> set[str]:
    assert masks is not None
    return {
        name
        for part, mask in zip(view.parts, masks, strict=True)
        for name, there in zip(part.segment.ids.to_pylist(), mask, strict=True)
        if there
    }


def test_masks_are_of_the_rows_that_a_condition_lets_through_and_that_live(collection: Collection) -> None:
    selector = Selector()
    view = flat_view(collection.fragments())
    collection.delete(["a1"])
    write(collection, a2=90, a4=91)
    collection.upsert([Row("a5", None, "a", status="error", error="why")], space_id="sp1-a", decode="exact")
    view = follow(view, collection.fragments())
    assert len(view.parts) == 2
    assert named(view, selector.masks(collection, view, "label = ?", ["a"])) == {"a2", "a3", "a4"}
    masks = selector.masks(collection, view, "id = 'a2'", ())
    assert masks is not None
    assert sum(int(mask.sum()) for mask in masks) == 1
    assert named(view, selector.masks(collection, view, "label = 'z'", ())) == set()
    assert selector.masks(collection, view, None, ()) is None
    with pytest.raises(InvalidArgument, match="colour"):
        selector.masks(collection, view, "colour = 'red'", ())


def test_a_view_without_rows_has_no_masks(store: CollectionStore) -> None:
    empty = store.create("empty", SPEC)
    assert Selector().masks(empty, flat_view(empty.fragments()), "label = 'a'", ()) == ()


def test_a_condition_is_asked_of_the_store_once_a_version(
    collection: Collection, resolved: Callable[[], int]
) -> None:
    selector = Selector()
    view = flat_view(collection.fragments())
    first = selector.masks(collection, view, "label = ?", ["a"])
    assert selector.masks(collection, view, "label = ?", ["a"]) is first
    assert resolved() == 1
    assert named(view, selector.masks(collection, view, "label = ?", ["b"])) == {"b1", "b2"}
    assert resolved() == 2
    write(collection, a9=1)
    newer = follow(view, collection.fragments())
    assert named(newer, selector.masks(collection, newer, "label = ?", ["a"])) == {"a1", "a2", "a3", "a9"}
    assert resolved() == 3
    # A view of the same version may have its rows in other places.
    anew = flat_view(collection.fragments())
    assert named(anew, selector.masks(collection, anew, "label = ?", ["a"])) == {"a1", "a2", "a3", "a9"}
    assert resolved() == 4
    selector.forget(view.uid)
    selector.masks(collection, anew, "label = ?", ["a"])
    assert resolved() == 5


def test_a_condition_that_is_kept_is_not_bound_again(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(where: str, parameters: Sequence[Scalar]) -> Bound:
        calls.append(where)
        return bind(where, parameters)

    monkeypatch.setattr(selecting, "bind", counted)
    selector = Selector()
    view = flat_view(collection.fragments())
    first = selector.masks(collection, view, "label IN (?, ?)", ("a", "c"))
    assert selector.masks(collection, view, "label IN (?, ?)", ["a", "c"]) is first
    assert calls == ["label IN (?, ?)"]


def test_what_does_not_pass_is_refused_each_time(collection: Collection) -> None:
    selector = Selector()
    view = flat_view(collection.fragments())
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    asked = "embedded_at > ? AND label <> ?"
    assert selector.masks(collection, view, asked, [moment, "\U00010000"]) is not None
    refused: list[tuple[list[Any], str]] = [
        ([moment.replace(tzinfo=None), "\U00010000"], "no time zone"),
        ([moment, "\ud800\udc00"], "no valid Unicode"),
        ([moment, ["a"]], "type list"),
        ([moment, {"a"}], "type set"),
        ([moment, b"a"], "type bytes"),
        ([moment], "takes 2 parameters"),
    ]
    for _ in range(2):
        for values, said in refused:
            with pytest.raises(InvalidArgument, match=said):
                selector.masks(collection, view, asked, values)
    with pytest.raises(InvalidArgument, match="no condition"):
        selector.masks(collection, view, None, ["a"])


def test_values_of_another_type_are_another_condition(
    collection: Collection, resolved: Callable[[], int]
) -> None:
    selector = Selector()
    view = flat_view(collection.fragments())
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    values: list[Scalar] = [None, True, 1, 1.0, "1", "true", moment, moment.isoformat(), np.float64(1)]
    for value in values:
        selector.masks(collection, view, "? IS NULL", [value])
    assert resolved() == len(values)
    selector.masks(collection, view, "? IS NULL", [moment])
    assert resolved() == len(values)


def test_only_the_latest_conditions_are_kept(
    collection: Collection, resolved: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selecting, "_KEPT", 2)
    selector = Selector()
    view = flat_view(collection.fragments())
    for label in ("a", "b", "a", "c", "a"):
        selector.masks(collection, view, "label = ?", [label])
    assert resolved() == 3
    selector.masks(collection, view, "label = ?", ["b"])
    assert resolved() == 4


def test_masks_are_kept_up_to_so_many_bytes(collection: Collection, resolved: Callable[[], int]) -> None:
    view = flat_view(collection.fragments())
    assert view.slots == 5
    selector = Selector(max_bytes=10)
    first = selector.masks(collection, view, "label = 'a'", ())
    selector.masks(collection, view, "label = 'b'", ())
    assert selector.masks(collection, view, "label = 'a'", ()) is first
    assert resolved() == 2
    # The one that was asked longest ago goes.
    selector.masks(collection, view, "label = 'c'", ())
    assert selector.masks(collection, view, "label = 'a'", ()) is first
    assert resolved() == 3
    selector.masks(collection, view, "label = 'b'", ())
    assert resolved() == 4
    small = Selector(max_bytes=4)
    for _ in range(2):
        assert named(view, small.masks(collection, view, "label = 'b'", ())) == {"b1", "b2"}
    assert resolved() == 6


def test_a_condition_of_many_values_is_kept_as_a_digest(collection: Collection) -> None:
    selector = Selector()
    view = flat_view(collection.fragments())
    value = "x" * 20_000_000
    tracemalloc.start()
    try:
        for number in range(3):
            selector.masks(collection, view, "label <> ?", [f"{number}{value}"])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


def test_callers_who_ask_at_once_get_the_same_masks(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By the identity of what they get, callers are gathered into one search.
    selector = Selector()
    view = flat_view(collection.fragments())
    both = threading.Barrier(2, timeout=60)
    row_ids = Collection.row_ids

    def together(self: Collection, where: str, *arguments: Any, **options: Any) -> Any:
        both.wait()
        return row_ids(self, where, *arguments, **options)

    monkeypatch.setattr(Collection, "row_ids", together)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(selector.masks, collection, view, "label = ?", ["a"]) for _ in range(2)]
        first, second = [each.result(timeout=60) for each in asked]
    assert first is second
    assert selector.masks(collection, view, "label = ?", ["a"]) is first


def test_masks_of_a_view_that_is_gone_are_let_go(collection: Collection) -> None:
    selector = Selector()
    view = flat_view(collection.fragments())
    masks = selector.masks(collection, view, "label = 'a'", ())
    assert masks is not None
    mask = weakref.ref(masks[0])
    del view, masks
    gc.collect()
    assert mask() is not None
    selector.masks(collection, flat_view(collection.fragments()), "label = 'b'", ())
    gc.collect()
    assert mask() is None


def test_a_condition_that_is_kept_keeps_no_view(collection: Collection) -> None:
    selector = Selector()
    view = flat_view(collection.fragments())
    selector.masks(collection, view, "label = 'a'", ())
    kept = weakref.ref(view)
    del view
    gc.collect()
    assert kept() is None


def test_rows_of_another_collection_of_the_name_are_not_taken_for_its_own(
    store: CollectionStore, collection: Collection
) -> None:
    view = flat_view(collection.fragments())
    store.drop("points")
    anew = store.create("points", SPEC)
    write(anew, b1=0, a1=1)
    assert anew.version == view.version
    assert np.isin(anew.row_ids("label = 'a'"), view.parts[0].segment.row_ids).all()
    with pytest.raises(StorageError, match="'points' was dropped and made anew"):
        Selector().masks(anew, view, "label = 'a'", ())
