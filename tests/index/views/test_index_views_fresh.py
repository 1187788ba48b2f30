"""Views are as fresh as callers ask for."""

from __future__ import annotations

import dataclasses
import threading
from datetime import timedelta

import pytest
from tests.index.points import SPEC, write
from tests.index.views.conftest import Clock, Loads, names, viewing

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, FailedPrecondition, StorageError
from trunkline_service.index import views as views_module
from trunkline_service.index.following import flat_view, follow
from trunkline_service.index.view import View
from trunkline_service.index.views import Views


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


def test_a_view_is_as_old_as_the_question_that_the_store_was_asked(
    collection: Collection, load: Loads, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = viewing(load, clock, refresh_s=5)
    fragments = Collection.fragments

    def slow(self: Collection, *version: int) -> Fragments:
        answer = fragments(self, *version)
        # Written after the store was asked, and before its answer arrived.
        monkeypatch.setattr(Collection, "fragments", fragments)
        write(collection, b=1)
        clock.now += 4
        return answer

    monkeypatch.setattr(Collection, "fragments", slow)
    assert names(views.fresh(collection)) == {"a"}
    clock.now += 2
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
