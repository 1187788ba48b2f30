"""Indexes that are damaged, or of other rows, are passed over; what was dropped or purged stays so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.index.indexes.conftest import DIM, ROWS, SPEC, Replicas, found, kind_of, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, StorageError
from trunkline_service.index.calling_off import never
from trunkline_service.index.indexes import unheard
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.storage.store import IndexStore


@pytest.mark.parametrize("file", ["index.faiss", "vectors.f32", "rows.arrow", "fragments.json", "card.json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "gone"])
def test_a_damaged_index_is_passed_over_and_built_again(
    collection: Collection, replica: Replicas, tmp_path: Path, file: str, harm: str
) -> None:
    indexes = replica()
    truth = found(indexes, collection, exact=True)
    indexes.set_options(collection, IndexOptions("ivf_flat", 1.0))
    indexes.build(collection, unheard, never)
    (path,) = (tmp_path / "indexes").rglob(file)
    # Others map the file: it is replaced, as a disk that fails would show it to who opens it next.
    data = bytearray(path.read_bytes())
    path.unlink()
    if harm != "gone":
        data[len(data) // 2] ^= 1
        path.write_bytes(data[: len(data) // 2] if harm == "cut" else data)
    fresh = replica()
    assert found(fresh, collection) == truth
    assert kind_of(fresh, collection) == "flat"
    assert not fresh.adopt(collection)
    fresh.build(collection, unheard, never)
    assert kind_of(fresh, collection) == "ivf_flat"
    assert found(fresh, collection) == truth


def test_an_index_is_never_another_collections(
    tmp_path: Path, collection: Collection, replica: Replicas
) -> None:
    indexes = replica()
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    indexes.build(collection, unheard, never)
    store = CollectionStore(tmp_path)
    store.drop("points")
    with pytest.raises(CollectionNotFound):
        kind_of(indexes, collection)
    anew = store.create("points", SPEC)
    write(anew, 50, first=0, seed=5)
    for each in (indexes, replica()):
        assert kind_of(each, anew) == "flat"
        assert {row_id for hits in found(each, anew, k=1000) for row_id in hits} == {
            f"r{n}" for n in range(50)
        }


def test_a_backup_that_was_put_back_does_not_bring_rows_of_another_history(
    tmp_path: Path, collection: Collection, replica: Replicas
) -> None:
    indexes, backup = replica(), tmp_path / "backup"
    shutil.copytree(tmp_path / "collections", backup)
    collection.upsert([Row("future", np.ones(DIM, np.float32))], space_id="sp1-a", decode="exact")
    indexes.set_options(collection, IndexOptions("ivf_flat", 1.0))
    assert indexes.build(collection, unheard, never).version == collection.version
    shutil.rmtree(tmp_path / "collections")
    shutil.copytree(backup, tmp_path / "collections")
    queries = np.ones((1, DIM), np.float32)
    again = CollectionStore(tmp_path).open("points")
    for number in range(3):
        fresh = replica()
        outcome = fresh.search(again, queries, SearchOptions(1000))
        assert outcome.version == again.version
        assert {hit.id for hit in outcome.hits[0]} == set(again.find([f"r{n}" for n in range(2000)]))
        assert outcome.searched.kind == "flat"
        again.upsert([Row(f"r{1000 + number}", queries[0])], space_id="sp1-a", decode="exact")
    fresh = replica()
    fresh.build(again, unheard, never)
    assert kind_of(fresh, again) == "ivf_flat"


@pytest.mark.parametrize("harm", ["options", "folder"])
def test_what_is_wrong_with_indexes_stops_no_search(
    tmp_path: Path, collection: Collection, replica: Replicas, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexes = replica()
    truth = found(indexes, collection)
    indexes.set_options(collection, IndexOptions("ivf_flat", 1.0))
    indexes.build(collection, unheard, never)
    if harm == "options":
        (path,) = (tmp_path / "indexes").rglob("*.options.json")
        path.write_text("{")
    else:

        def fail(*_: object, **__: object) -> None:
            raise StorageError("the disk does not answer")

        monkeypatch.setattr(IndexStore, "newest", fail)
    fresh = replica()
    assert found(fresh, collection) == truth
    assert fresh.state(collection).rows == ROWS
    monkeypatch.undo()
    fresh.set_options(collection, IndexOptions("ivf_flat", 1.0))
    assert replica().options(collection).kind == "ivf_flat"


def test_a_purge_during_a_measurement_stays_a_purge(
    collection: Collection, replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexes = replica()
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    indexes.build(collection, unheard, never)
    kind_of(indexes, collection)
    measured = indexes._measured

    def purging(*arguments: Any) -> Any:
        answer = measured(*arguments)
        collection.purge(["r7"])
        indexes.purge(collection)
        return answer

    monkeypatch.setattr(indexes, "_measured", purging)
    monkeypatch.setattr("trunkline_service.index.indexes.is_stale", lambda view: True)
    indexes.keep_up(collection, never)
    assert indexes._searcher.views.known(collection) is None
    assert "r7" not in {row_id for hits in found(indexes, collection, k=1000) for row_id in hits}
    assert kind_of(indexes, collection) == "flat"


def test_names_that_nobody_has_are_not_remembered_and_dropped_ones_forgotten(
    tmp_path: Path, collection: Collection, replica: Replicas
) -> None:
    indexes, store = replica(), CollectionStore(tmp_path)
    for number in range(5):
        with pytest.raises(CollectionNotFound):
            kind_of(indexes, store.lookup(f"nobody{number}").collection)
    assert indexes.searched() == []
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    indexes.build(collection, unheard, never)
    kind_of(indexes, collection)
    assert indexes.searched() == [collection]
    store.drop("points")
    indexes.forget_dropped("points", collection)
    assert indexes.searched() == []
    assert list((tmp_path / "indexes").rglob("*.*")) == []
    anew = store.create("points", SPEC)
    assert indexes.options(anew) == IndexOptions()
