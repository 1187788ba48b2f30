"""What the searcher reads once, keeps in memory, and lets go."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from tests.index.points import SPEC, write
from tests.index.searcher.conftest import ids

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.store import CollectionStore
from trunkline_service.index import following
from trunkline_service.index.following import flat_view
from trunkline_service.index.reading import read_rows
from trunkline_service.index.searcher import Searcher, SearchPolicy


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often all rows of a collection were read."""
    calls: list[str] = []
    monkeypatch.setattr(
        following,
        "read_rows",
        lambda now, *rest: (calls.append("all") if not rest else None, read_rows(now, *rest))[1],
    )
    return lambda: len(calls)


def test_an_unchanged_collection_is_read_once(
    collection: Collection, searcher: Searcher, reads: Callable[[], int]
) -> None:
    write(collection, a=0)
    for _ in range(3):
        ids(searcher, collection, 0)
    assert reads() == 1


def test_the_collections_searched_longest_ago_leave_memory_first(
    store: CollectionStore, reads: Callable[[], int]
) -> None:
    one, two, three = collections = [store.create(name, SPEC) for name in ("one", "two", "three")]
    for collection in collections:
        write(collection, a=0, b=1)
    size = flat_view(one.fragments()).nbytes
    searcher = Searcher(SearchPolicy(max_bytes=2 * size))
    before = reads()
    for collection in (one, two, one, three, one):
        ids(searcher, collection, 0, where="label = 'a'")
    assert reads() == before + 3
    ids(searcher, two, 0)
    assert reads() == before + 4


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """The vectors that were read, as long as something holds them."""
    found: list[weakref.ref[Any]] = []

    def noted(now: Fragments, *rest: Any) -> Any:
        read = read_rows(now, *rest)
        if read.part is not None:
            found.append(weakref.ref(read.part.segment))
        return read

    monkeypatch.setattr(following, "read_rows", noted)
    return found


def test_what_is_forgotten_is_let_go_at_once_and_read_anew(
    store: CollectionStore, collection: Collection, searcher: Searcher, made: list[weakref.ref[Any]]
) -> None:
    other = store.create("other", SPEC)
    for each in (collection, other):
        write(each, a=0, b=90)
        ids(searcher, each, 0, where="label = 'a'", group_by="label")
    searcher.forget(collection)
    gc.collect()
    assert [segment() is None for segment in made] == [True, False]
    assert ids(searcher, collection, 0) == ids(searcher, other, 0) == [["a", "b"]]
    assert len(made) == 3
    for _ in range(2):
        searcher.forget(collection)


def test_what_left_memory_is_not_held_by_the_conditions_it_was_asked(
    store: CollectionStore, collection: Collection, made: list[weakref.ref[Any]]
) -> None:
    searcher = Searcher(SearchPolicy(max_bytes=1))
    other = store.create("other", SPEC)
    for each in (collection, other):
        write(each, a=0, b=90)
        ids(searcher, each, 0, where="label = 'a'")
    gc.collect()
    assert [segment() is None for segment in made] == [True, False]


def test_a_build_under_way_is_forgotten_too(
    collection: Collection, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(collection, secret=0, other=90)
    read, go_on = threading.Event(), threading.Event()
    parts: list[weakref.ref[Any]] = []

    def slow(now: Fragments, *rest: Any) -> Any:
        rows = read_rows(now, *rest)
        if rows.part is not None:
            parts.append(weakref.ref(rows.part.segment))
        read.set()
        assert go_on.wait(30)
        return rows

    monkeypatch.setattr(following, "read_rows", slow)
    searching = threading.Thread(target=lambda: ids(searcher, collection, 0, where="true"))
    searching.start()
    assert read.wait(30)
    collection.purge(["secret"])
    forgetting = threading.Thread(target=lambda: searcher.forget(collection))
    forgetting.start()
    go_on.set()
    searching.join(30)
    forgetting.join(30)
    gc.collect()
    assert parts
    assert not [segment for segment in parts if (held := segment()) and "secret" in held.ids.to_pylist()]
    assert ids(searcher, collection, 0) == [["other"]]
