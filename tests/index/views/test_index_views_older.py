"""Views of older versions: put together from what is known, and forgotten with it."""

from __future__ import annotations

import gc
import weakref

import pytest
from tests.index.points import SPEC, write
from tests.index.views.conftest import Clock, Loads, names, viewing

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument
from trunkline_service.index import views as views_module
from trunkline_service.index.following import follow
from trunkline_service.index.view import View


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


def test_an_older_version_that_is_known_is_not_another_collections(
    store: CollectionStore, collection: Collection, load: Loads, clock: Clock
) -> None:
    views = viewing(load, clock)
    old = collection.version
    write(collection, b=1)
    assert names(views.at(collection, old)) == {"a"}
    store.drop("points")
    anew = store.create("points", SPEC)
    write(anew, z=90)
    write(anew, y=91)
    assert anew.version > old
    assert names(views.at(anew, old)) == names(views.at(anew, old)) != {"a"}
