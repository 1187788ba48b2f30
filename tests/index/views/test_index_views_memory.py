"""Views take no more memory than they may."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from tests.index.points import SPEC, write
from tests.index.views.conftest import Clock, Loads, viewing

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.store import CollectionStore
from trunkline_service.index.following import flat_view
from trunkline_service.index.view import View
from trunkline_service.index.views import Views


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
