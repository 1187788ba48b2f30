"""Views are as fresh as callers ask for, and take no more memory than they may."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.index.points import SPEC, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, FailedPrecondition, InvalidArgument, StorageError
from trunkline_service.index import views as views_module
from trunkline_service.index.following import flat_view, follow
from trunkline_service.index.view import View
from trunkline_service.index.views import Views


class Clock:
    """Seconds that pass when the test says so; ``then`` is done once, at the next reading."""

    def __init__(self) -> None:
        self.now = 100.0
        self.then: Callable[[], object] | None = None

    def __call__(self) -> float:
        if self.then is not None:
            then, self.then = self.then, None
            then()
        return self.now


class Loads:
    """Makes flat views; counts them."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, collection: Collection, now: Fragments) -> View:
        self.names.append(collection.name)
        return flat_view(now)


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    return CollectionStore(tmp_path)


@pytest.fixture
def collection(store: CollectionStore) -> Collection:
    made = store.create("points", SPEC)
    write(made, a=0)
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def load() -> Loads:
    return Loads()


def viewing(load: Loads, clock: Clock, refresh_s: float = 0, max_bytes: int = 10**9) -> Views:
    return Views(load, refresh_s, max_bytes, clock)


def names(view: View) -> set[str]:
    return {
        name
        for part in view.parts
        for name, alive in zip(part.segment.ids.to_pylist(), part.alive, strict=True)
        if alive
    }


def test_every_commit_is_seen_at_once_and_an_unchanged_view_stays(
    collection: Collection, load: Loads, clock: Clock
) -> None:
    views = viewing(load, clock)
    first = views.fresh(collection)
    assert views.fresh(collection) is first
    write(collection, b=1)
    second = views.fresh(collection)
    assert (names(first), names(second), second.version) == ({"a"}, {"a", "b"}, collection.version)
    assert load.names == ["points"]
    assert views.known(collection) is second


def test_within_the_refresh_interval_the_store_is_not_asked(
    collection: Collection, load: Loads, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = viewing(load, clock, refresh_s=5)
    first = views.fresh(collection)
    write(collection, b=1)
    clock.now += 4.9
    with monkeypatch.context() as patch:
        patch.setattr(Collection, "fragments", lambda *_: pytest.fail("the store was asked"))
        assert views.fresh(collection) is first
    clock.now += 0.2
    assert names(views.fresh(collection)) == {"a", "b"}
    # Known to be the latest since now, and not since the view was made.
    clock.now += 4
    views.fresh(collection)
    write(collection, c=1)
    clock.now += 2
    assert names(views.fresh(collection)) == {"a", "b", "c"}


def test_a_min_version_is_waited_for_by_nobody(collection: Collection, load: Loads, clock: Clock) -> None:
    views = viewing(load, clock, refresh_s=1000)
    views.fresh(collection)
    write(collection, b=1)
    version = collection.version
    assert names(views.fresh(collection, version - 1)) == {"a"}
    assert names(views.fresh(collection, version)) == {"a", "b"}
    words = f"'points' is at version {version}; min_version {version + 1} was never written"
    with pytest.raises(FailedPrecondition, match=words):
        views.fresh(collection, version + 1)
    assert names(views.fresh(collection)) == {"a", "b"}


def test_a_min_version_is_of_the_collection_that_has_the_name_now(
    store: CollectionStore, collection: Collection, load: Loads, clock: Clock
) -> None:
    views = viewing(load, clock, refresh_s=1000)
    for number in range(5):
        write(collection, **{f"a{number}": 1})
    old = views.fresh(collection)
    store.drop("points")
    with pytest.raises(CollectionNotFound):
        views.fresh(collection, 1)
    anew = store.create("points", SPEC)
    write(anew, z=90)
    assert anew.version < old.version
    assert names(views.fresh(collection, anew.version)) == {"z"}
    with pytest.raises(FailedPrecondition, match="never written"):
        views.fresh(collection, old.version)


def test_a_view_is_not_taken_for_fresh_because_a_newer_one_is(
    collection: Collection, load: Loads, clock: Clock
) -> None:
    views = viewing(load, clock, refresh_s=5)
    views.fresh(collection)
    clock.now += 1000
    write(collection, b=1)
    # Another thread brings the view up to date while this one looks how old it is.
    clock.then = lambda: views.fresh(collection)
    assert names(views.fresh(collection)) == {"a", "b"}


def test_a_collection_that_was_dropped_and_made_anew_is_another_one(
    store: CollectionStore, collection: Collection, load: Loads, clock: Clock
) -> None:
    views = viewing(load, clock)
    for number in range(5):
        write(collection, **{f"b{number}": 1})
    old = views.fresh(collection)
    store.drop("points")
    with pytest.raises(CollectionNotFound):
        views.fresh(collection)
    anew = store.create("points", dataclasses.replace(SPEC, dim=3))
    view = views.fresh(anew)
    assert (view.uid, view.version, view.spec.dim, len(view)) == (anew.revision.uid, anew.version, 3, 0)
    assert view.version < old.version
    # Its old name stands for the new one too.
    assert views.fresh(collection) is view


def test_a_version_that_is_removed_meanwhile_is_passed_over(
    collection: Collection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(collection, a=1, b=2)
    views = viewing(Loads(), clock)
    views.fresh(collection)
    write(collection, a=3)

    def overtaken(view: View, now: Fragments) -> View:
        monkeypatch.setattr(views_module, "follow", follow)
        write(collection, c=4)
        collection.compact(keep=timedelta(0))
        return follow(view, now)

    monkeypatch.setattr(views_module, "follow", overtaken)
    view = views.fresh(collection)
    assert (names(view), view.version) == ({"a", "b", "c"}, collection.version)


def test_a_store_that_cannot_be_read_is_an_error_and_not_the_last(
    collection: Collection, clock: Clock
) -> None:
    broken = [True]

    def load(_: Collection, now: Fragments) -> View:
        if broken[0]:
            raise StorageError("the disk is gone")
        return flat_view(now)

    views = Views(load, 0, 10**9, clock)
    with pytest.raises(StorageError, match="disk"):
        views.fresh(collection)
    broken[0] = False
    assert names(views.fresh(collection)) == {"a"}


def test_an_index_of_another_version_is_brought_up_to_date(collection: Collection, clock: Clock) -> None:
    early = flat_view(collection.fragments())
    write(collection, b=1)
    views = Views(lambda *_: early, 0, 10**9, clock)
    assert names(views.fresh(collection)) == {"a", "b"}


def test_one_thread_makes_a_view_and_the_others_wait_for_it(collection: Collection, clock: Clock) -> None:
    begun, go_on = threading.Event(), threading.Event()
    made: list[View] = []

    def load(_: Collection, now: Fragments) -> View:
        begun.set()
        assert go_on.wait(30)
        made.append(flat_view(now))
        return made[-1]

    views = Views(load, 0, 10**9, clock)
    found: list[View] = []
    readers = [threading.Thread(target=lambda: found.append(views.fresh(collection))) for _ in range(4)]
    for reader in readers:
        reader.start()
    assert begun.wait(30)
    go_on.set()
    for reader in readers:
        reader.join(30)
    assert len(made) == 1
    assert found == made * 4


def test_the_collections_searched_longest_ago_leave_memory_first(
    store: CollectionStore, load: Loads, clock: Clock
) -> None:
    one, two, three = (store.create(name, SPEC) for name in ("one", "two", "three"))
    for collection in (one, two, three):
        write(collection, a=0, b=1)
    size = flat_view(one.fragments()).nbytes
    views = viewing(load, clock, max_bytes=2 * size)
    for collection in (one, two, one, three, one):
        views.fresh(collection)
    assert load.names == ["one", "two", "three"]
    assert views.known(two) is None
    views.fresh(two)
    assert load.names[3:] == ["two"]
    assert views.known(three) is None


def test_a_large_collection_and_a_small_one_in_turn_are_each_read_once(
    store: CollectionStore, collection: Collection, load: Loads, clock: Clock
) -> None:
    write(collection, **{f"a{number}": number for number in range(30)})
    small = store.create("small", SPEC)
    write(small, a=0)
    views = viewing(load, clock, max_bytes=flat_view(collection.fragments()).nbytes // 2)
    for _ in range(20):
        views.fresh(collection)
        views.fresh(small)
    assert load.names == ["points", "small"]


def test_the_largest_goes_too_where_only_smaller_ones_are_asked_for(
    store: CollectionStore, collection: Collection, load: Loads, clock: Clock
) -> None:
    write(collection, **{f"a{number}": number for number in range(30)})
    others = [store.create(name, SPEC) for name in ("one", "two")]
    for other in others:
        write(other, a=0)
    size = flat_view(others[0].fragments()).nbytes
    views = viewing(load, clock, max_bytes=2 * size)
    views.fresh(collection)
    for _ in range(50):
        for other in others:
            views.fresh(other)
    assert views.known(collection) is None
    assert len(load.names) < 15


def test_what_is_mapped_takes_no_memory(
    collection: Collection, clock: Clock, store: CollectionStore, tmp_path: Path
) -> None:
    read: list[str] = []

    def load(asked: Collection, now: Fragments) -> View:
        read.append(asked.name)
        view = flat_view(now)
        (part,) = view.parts
        path = tmp_path / f"{asked.name}.f32"
        part.segment.vectors.tofile(path)
        mapped = np.asarray(np.memmap(path, np.float32, "r", shape=part.segment.vectors.shape))[:]
        segment = dataclasses.replace(part.segment, vectors=mapped)
        assert segment.nbytes == part.segment.nbytes - mapped.nbytes
        return dataclasses.replace(view, parts=(dataclasses.replace(part, segment=segment),))

    other = store.create("other", SPEC)
    for each in (collection, other):
        write(each, **{f"a{number}": number for number in range(50)})
    texts = flat_view(other.fragments()).nbytes - 50 * 2 * 4
    views = Views(load, 0, 2 * texts + 100, clock)
    for each in (collection, other, collection, other):
        views.fresh(each)
    assert read == ["points", "other"]


def test_one_collection_that_is_too_large_is_kept_alone(
    store: CollectionStore, collection: Collection, load: Loads, clock: Clock
) -> None:
    other = store.create("other", SPEC)
    write(other, a=0)
    views = viewing(load, clock, max_bytes=1)
    for _ in range(2):
        views.fresh(collection)
    assert load.names == ["points"]
    views.fresh(other)
    assert (views.known(collection), views.known(other) is None) == (None, False)


def test_older_versions_are_put_together_from_what_is_known(
    collection: Collection, load: Loads, clock: Clock
) -> None:
    versions = [collection.version]
    for number in range(3):
        write(collection, **{f"b{number}": 1})
        versions.append(collection.version)
    collection.delete(["a"])
    views = viewing(load, clock)
    for number, version in enumerate(versions):
        view = views.at(collection, version)
        assert (view.version, names(view)) == (version, {"a", *(f"b{index}" for index in range(number))})
        assert views.at(collection, version) is view
    assert views.at(collection, collection.version) is views.fresh(collection)
    assert load.names == ["points"]
    with pytest.raises(InvalidArgument, match="no version"):
        views.at(collection, collection.version + 1)


def test_an_older_version_of_another_collection_of_the_name_is_its_own(
    store: CollectionStore, collection: Collection, load: Loads, clock: Clock
) -> None:
    views = viewing(load, clock, refresh_s=1000)
    write(collection, b=1)
    views.fresh(collection)
    store.drop("points")
    anew = store.create("points", SPEC)
    write(anew, z=90)
    # Its first row has the number, and the version, of the old collection's first row.
    assert names(views.at(anew, anew.version)) == {"z"}


def test_what_is_forgotten_is_let_go_older_versions_too(
    store: CollectionStore, collection: Collection, load: Loads, clock: Clock
) -> None:
    other = store.create("other", SPEC)
    write(other, **{f"a{number}": number for number in range(9)})
    old = collection.version
    write(collection, b=1)
    for evicted in (False, True):
        views = viewing(load, clock, max_bytes=1 if evicted else 10**9)
        kept = [weakref.ref(views.at(collection, old)), weakref.ref(views.fresh(collection))]
        if evicted:
            views.fresh(other)
            gc.collect()
            assert [view() for view in kept] == [None, None]
        views.forget(collection)
        gc.collect()
        assert [view() for view in kept] == [None, None]
        assert views.known(collection) is None
    assert names(views.fresh(collection)) == {"a", "b"}
    views.forget(collection)
    views.forget(collection)


def test_a_purged_row_is_not_in_an_older_version_either(
    collection: Collection, load: Loads, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = collection.version
    write(collection, b=1)
    views = viewing(load, clock)
    views.fresh(collection)

    def overtaken(view: View, now: Fragments) -> View:
        made = follow(view, now)
        monkeypatch.setattr(views_module, "follow", follow)
        collection.purge(["a"])
        views.forget(collection)
        return made

    monkeypatch.setattr(views_module, "follow", overtaken)
    # A search that began before keeps what it has.
    assert names(views.at(collection, old)) == {"a"}
    with pytest.raises(InvalidArgument, match="no version"):
        views.at(collection, old)
    assert names(views.fresh(collection)) == {"b"}


def test_another_view_takes_the_place_of_the_one_there_is(
    collection: Collection, load: Loads, clock: Clock
) -> None:
    write(collection, a1=1, a2=2, a3=3, a4=4, a5=5)
    views = viewing(load, clock)
    first = views.fresh(collection)
    other = flat_view(collection.fragments())
    write(collection, b=1)
    seen: list[View | None] = []

    def make(known: View | None) -> View:
        seen.append(known)
        write(collection, c=1)
        return other

    made = views.replace(collection, make)
    assert seen == [first]
    assert {"b", "c"} < names(made)
    assert made.parts[0].segment is other.parts[0].segment
    assert views.fresh(collection) is views.known(collection) is made
    assert load.names == ["points"]
