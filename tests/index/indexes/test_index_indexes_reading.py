"""An index that can't be read for a while: what serves stays, and nothing is read again and again."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from tests.index.indexes.conftest import ROWS, Replicas, kind_of, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, StorageError
from trunkline_service.index import indexes as indexes_module
from trunkline_service.index import loading
from trunkline_service.index.calling_off import never
from trunkline_service.index.indexes import Indexes, unheard
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage.store import IndexStore


class Reading:
    """What is read of the store, and whether indexes can be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = True
        self.opened = self.scans = 0
        self.open, self.flat_view = IndexStore.open, loading.flat_view
        reading = self

        def opening(store: IndexStore, *arguments: object) -> Path:
            reading.opened += 1
            if reading.fails:
                raise StorageError("too many files are open")
            return reading.open(store, *arguments)  # type: ignore[arg-type]

        def scanning(now: Fragments) -> object:
            reading.scans += 1
            return reading.flat_view(now)

        monkeypatch.setattr(IndexStore, "open", opening)
        for module in (loading, indexes_module):
            monkeypatch.setattr(module, "flat_view", scanning)


def built(indexes: Indexes, collection: Collection) -> None:
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    indexes.build(collection, unheard, never)


def test_an_index_that_can_not_be_read_for_a_while_is_tried_again_and_not_built_again(
    collection: Collection,
    replica: Replicas,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(collection, 1000, first=ROWS, seed=1)
    built(replica(), collection)
    reading, reader = Reading(monkeypatch), replica()
    monkeypatch.setattr(reader, "_built", lambda *_: pytest.fail("another index was built"))
    for _ in range(30):
        assert kind_of(reader, collection) == "flat"
        reader.keep_up(collection, never)
        replica.now += 5
    # At 0, 10, 30 and 70 s.
    assert (reading.opened, reading.scans) == (4, 1)
    assert caplog.text.count("too many files are open; it is tried again in") == reading.opened
    reading.fails = False
    replica.now += 640
    reader.keep_up(collection, never)
    assert kind_of(reader, collection) == "ivf_flat"
    assert reading.scans == 1


def test_what_serves_stays_where_the_next_index_can_not_be_read(
    collection: Collection, replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder, reader = replica(), replica()
    built(builder, collection)
    assert kind_of(reader, collection) == "ivf_flat"
    first = reader.state(collection).card
    write(collection, 10, first=ROWS, seed=1)
    second = builder.build(collection, unheard, never)
    reading = Reading(monkeypatch)
    assert not reader.adopt(collection)
    assert kind_of(reader, collection) == "ivf_flat"
    assert reader.state(collection).card == first
    reading.fails = False
    assert not reader.adopt(collection)
    replica.now += 10
    assert reader.adopt(collection)
    assert reader.state(collection).card == second
    assert reading.scans == 0


def test_an_index_that_is_dropped_while_it_can_not_be_read_is_not_waited_for(
    collection: Collection, replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(collection, 1000, first=ROWS, seed=1)
    builder, reader = replica(), replica()
    built(builder, collection)
    reading = Reading(monkeypatch)
    assert kind_of(reader, collection) == "flat"
    reader.adopt(collection)
    builder.drop(collection)
    reading.fails = False
    replica.now += 11
    reader.keep_up(collection, never)
    assert reader.state(collection).card is not None


@pytest.mark.parametrize("by", ["build", "others"])
def test_nothing_of_an_earlier_kind_stays_in_memory_beside_lances(
    collection: Collection, replica: Replicas, by: str
) -> None:
    indexes = replica()
    built(indexes, collection)
    assert kind_of(indexes, collection) == "ivf_flat"
    builder = indexes if by == "build" else replica()
    builder.set_options(collection, IndexOptions("lance", 0.5))
    builder.build(collection, unheard, never)
    replica.now += 11
    if by == "others":
        indexes.keep_up(collection, never)
    gc.collect()
    assert indexes._searcher.views.known(collection) is None
    assert kind_of(indexes, collection) == "lance"


def test_the_cache_of_a_collection_that_others_dropped_is_cleared(
    tmp_path: Path, collection: Collection, replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared: list[tuple[str, str]] = []
    monkeypatch.setattr(IndexStore, "forget_cache", lambda _, name, uid: cleared.append((name, uid)))
    indexes, uid = replica(), collection.revision.uid
    kind_of(indexes, collection)
    CollectionStore(tmp_path).drop("points")
    for _ in range(2):
        with pytest.raises(CollectionNotFound):
            kind_of(indexes, collection)
    assert cleared == [("points", uid)]
    assert indexes.searched() == []
