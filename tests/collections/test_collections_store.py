"""Names, creation (alone and in a race), refusals of what is not ours, and dropping."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from trunkline_service.collections import schema
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import (
    CollectionNotFound,
    FailedPrecondition,
    InvalidArgument,
    SpaceMismatch,
    StorageError,
)


def rewrite_record(collection: Collection, text: bytes) -> None:
    lance.dataset(collection.key).update_schema_metadata({"trunkline": text.decode()}, replace=True)


def test_a_collection_is_read_back_by_another_store(
    tmp_path: Path, store: CollectionStore, spec: CollectionSpec
) -> None:
    store.create("flowers", replace(spec, pretrained=False))
    other = CollectionStore(tmp_path / "data")
    assert other.names() == ["flowers"]
    assert other.open("flowers").spec == replace(spec, pretrained=False)
    assert (tmp_path / "data" / "collections" / "flowers.lance").is_dir()


def test_a_store_of_no_folder_is_empty_and_makes_none(tmp_path: Path) -> None:
    store = CollectionStore(tmp_path / "absent")
    assert store.names() == []
    with pytest.raises(CollectionNotFound, match="no collections yet"):
        store.open("flowers")
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "/etc", "a\\b", ".hidden", "-flag", "a b", "a\n", "é", "a" * 101]
)
def test_names_that_could_leave_the_folder_are_refused_by_every_method(
    store: CollectionStore, spec: CollectionSpec, name: str
) -> None:
    for attempt in (
        lambda: store.open(name),
        lambda: store.create(name, spec),
        lambda: store.open_or_create(name, spec),
        lambda: store.drop(name),
    ):
        with pytest.raises(InvalidArgument, match="can't name a collection"):
            attempt()


def test_a_name_of_100_characters_works(store: CollectionStore, spec: CollectionSpec) -> None:
    store.create("a" * 100, spec)
    assert store.names() == ["a" * 100]


def test_an_unknown_name_gets_near_ones(store: CollectionStore, spec: CollectionSpec) -> None:
    store.create("flowers", spec)
    store.create("cars", spec)
    with pytest.raises(CollectionNotFound, match="did you mean 'flowers'"):
        store.open("flowres")
    with pytest.raises(CollectionNotFound, match="there are 'cars', 'flowers'"):
        store.open("zzz")


def test_creating_twice_is_refused_and_opening_twice_is_not(
    store: CollectionStore, spec: CollectionSpec
) -> None:
    first = store.open_or_create("flowers", spec)
    assert store.open_or_create("flowers", spec).revision == first.revision
    with pytest.raises(FailedPrecondition, match="already"):
        store.create("flowers", spec)


def test_a_collection_of_another_space_is_not_taken_for_this_one(
    store: CollectionStore, spec: CollectionSpec
) -> None:
    store.create("flowers", spec)
    with pytest.raises(SpaceMismatch) as refusal:
        store.open_or_create("flowers", replace(spec, space_id="sp1-b"))
    assert "sp1-a" in refusal.value.message
    assert "sp1-b" in refusal.value.message


def test_creators_at_once_all_get_one_collection_and_one_of_them_made_it(
    tmp_path: Path, store: CollectionStore, spec: CollectionSpec
) -> None:
    # Lance's own creation lets two of them succeed in half of such races.
    for turn in range(8):
        start = threading.Barrier(8)
        name = f"flowers{turn}"
        uids: list[str] = []
        made: list[str] = []

        def create(start: threading.Barrier, name: str, made: list[str]) -> None:
            start.wait()
            with suppress(FailedPrecondition):
                made.append(store.create(name, spec).revision.uid)

        def open_or_create(start: threading.Barrier, name: str, uids: list[str]) -> None:
            start.wait()
            uids.append(store.open_or_create(name, spec).revision.uid)

        threads = [threading.Thread(target=create, args=(start, name, made)) for _ in range(4)]
        threads += [threading.Thread(target=open_or_create, args=(start, name, uids)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(uids) == 4
        assert len(made) <= 1
        assert {store.open(name).revision} == {(uids[0], 1)}
        assert len({*uids, *made}) == 1
    assert not list((tmp_path / "data" / "collections").glob(".*"))


def test_a_folder_without_a_version_is_no_collection_until_one_is_made_in_it(
    tmp_path: Path, store: CollectionStore, spec: CollectionSpec
) -> None:
    (tmp_path / "data" / "collections" / "flowers.lance" / "_versions").mkdir(parents=True)
    assert store.names() == []
    with pytest.raises(CollectionNotFound):
        store.open("flowers")
    store.create("flowers", spec)
    assert store.open("flowers").version == 1


def test_what_a_dead_creator_left_is_nobodys(
    tmp_path: Path, store: CollectionStore, spec: CollectionSpec
) -> None:
    store.create("flowers", spec)
    folder = tmp_path / "data" / "collections"
    (folder / "flowers.lance").rename(folder / ".creating-0")
    assert store.names() == []
    assert store.create("flowers", spec).version == 1
    assert store.names() == ["flowers"]


def test_dropping_removes_every_byte_and_frees_the_name(
    tmp_path: Path, store: CollectionStore, collection: Collection, spec: CollectionSpec
) -> None:
    before = collection.revision
    store.drop("flowers")
    assert store.names() == []
    assert list((tmp_path / "data" / "collections").iterdir()) == []
    with pytest.raises(CollectionNotFound):
        collection.info()
    with pytest.raises(CollectionNotFound):
        store.drop("flowers")
    after = store.create("flowers", replace(spec, space_id="sp1-b")).revision
    assert after.version == before.version
    assert after.uid != before.uid
    assert collection.spec.space_id == "sp1-b"


def test_a_newer_schema_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, store: CollectionStore, spec: CollectionSpec
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
        store.create("flowers", spec)
        store.open("flowers")
    with pytest.raises(StorageError, match="upgrade trunkline"):
        store.open("flowers")


@pytest.mark.parametrize("record", [b"{", b"[]", b'{"schema_version": "x"}', b'{"schema_version": 1}'])
def test_a_broken_record_is_refused(store: CollectionStore, collection: Collection, record: bytes) -> None:
    rewrite_record(collection, record)
    with pytest.raises(StorageError, match="flowers"):
        store.open("flowers")


def test_a_foreign_dataset_is_refused(tmp_path: Path, store: CollectionStore) -> None:
    folder = tmp_path / "data" / "collections"
    folder.mkdir(parents=True)
    lance.write_dataset(pa.table({"id": ["a"]}), folder / "other.lance")
    with pytest.raises(StorageError, match="Trunkline did not write"):
        store.open("other")


def test_a_damaged_file_is_a_storage_error_that_shows_no_place_in_lance(collection: Collection) -> None:
    collection.upsert([Row("a", np.ones(4, np.float32))], space_id="sp1-a", decode="exact")
    for file in Path(collection.key, "data").iterdir():
        file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(StorageError) as refusal:
        collection.matrix(where="label is null")
    assert "flowers" in refusal.value.message
    assert ".rs" not in refusal.value.message
    assert refusal.value.__cause__ is not None


def test_a_data_folder_that_is_a_file_is_a_storage_error(tmp_path: Path, spec: CollectionSpec) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="can't be created"):
        CollectionStore(tmp_path / "file").create("flowers", spec)
