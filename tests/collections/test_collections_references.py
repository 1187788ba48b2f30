"""What names stand for: collections, versions, aliases, tags; and where data URIs lead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trunkline_service.collections.aliases import Alias, split_alias
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.place import LocalPlace, ObjectPlace, open_place
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, FailedPrecondition, InvalidArgument, StorageError


def write(collection: Collection, *names: str) -> int:
    rows = [Row(name, np.ones(4, np.float32)) for name in names]
    return collection.upsert(rows, space_id="sp1-a", decode="exact")


def resolved(store: CollectionStore, reference: str) -> tuple[str, int | None]:
    found = store.resolve(reference)
    return found.collection.name, found.version


def test_a_name_stands_for_the_latest_and_a_number_for_a_version(
    store: CollectionStore, collection: Collection
) -> None:
    version = write(collection, "a")
    write(collection, "b")
    assert resolved(store, "flowers") == ("flowers", None)
    assert resolved(store, f"flowers@{version}") == ("flowers", version)
    found = store.resolve(f"flowers@{version}")
    assert found.collection.matrix(version=found.version).ids.to_pylist() == ["a"]
    with pytest.raises(InvalidArgument, match="no version 99"):
        store.resolve("flowers@99")


def test_an_alias_moves_and_pins(
    store: CollectionStore, spec: CollectionSpec, collection: Collection
) -> None:
    store.create("flowers2", spec)
    version = write(collection, "a")
    assert store.set_alias("flowers@prod", "flowers") == Alias("flowers@prod", "flowers", None)
    assert resolved(store, "flowers@prod") == ("flowers", None)
    assert store.open("flowers@prod").key == collection.key
    store.set_alias("flowers@prod", "flowers", version)
    assert resolved(store, "flowers@prod") == ("flowers", version)
    with pytest.raises(InvalidArgument, match=rf"version {version} of collection 'flowers'"):
        store.open("flowers@prod")
    store.set_alias("flowers@prod", "flowers2")
    assert resolved(store, "flowers@prod") == ("flowers2", None)
    store.set_alias("any@old", "flowers", version)
    assert store.aliases.all() == [
        Alias("any@old", "flowers", version),
        Alias("flowers@prod", "flowers2", None),
    ]
    assert store.aliases_of("flowers") == [Alias("any@old", "flowers", version)]
    store.aliases.delete("flowers@prod")
    with pytest.raises(CollectionNotFound, match="no alias 'flowers@prod'"):
        store.aliases.delete("flowers@prod")
    with pytest.raises(CollectionNotFound, match="no alias and no tag 'prod'"):
        store.resolve("flowers@prod")


def test_an_alias_is_seen_by_other_stores_and_is_no_collection(
    tmp_path: Path, store: CollectionStore, collection: Collection
) -> None:
    store.set_alias("flowers@prod", "flowers")
    other = CollectionStore(tmp_path / "data")
    assert resolved(other, "flowers@prod") == ("flowers", None)
    assert other.names() == ["flowers"]


def test_what_an_alias_would_point_to_must_be_there(store: CollectionStore, collection: Collection) -> None:
    with pytest.raises(CollectionNotFound, match="did you mean 'flowers'"):
        store.set_alias("flowers@prod", "flowres")
    with pytest.raises(InvalidArgument, match="no version 7"):
        store.set_alias("flowers@prod", "flowers", 7)
    assert store.aliases.all() == []


@pytest.mark.parametrize(
    "name", ["flowers", "flowers@", "@prod", "flowers@7", "a/b@prod", "a@../b", "a@b@c", "é@x"]
)
def test_names_that_no_alias_can_have(store: CollectionStore, collection: Collection, name: str) -> None:
    with pytest.raises(InvalidArgument):
        split_alias(name)
    with pytest.raises(InvalidArgument):
        store.set_alias(name, "flowers")
    assert store.aliases.all() == []


def test_a_broken_alias_is_named(tmp_path: Path, store: CollectionStore, collection: Collection) -> None:
    store.set_alias("flowers@prod", "flowers")
    (tmp_path / "data" / "collections" / ".aliases" / "flowers@prod.json").write_text("{")
    with pytest.raises(StorageError, match=r"flowers@prod.*set it again"):
        store.resolve("flowers@prod")


def test_a_collection_that_an_alias_stands_for_is_not_dropped(
    store: CollectionStore, collection: Collection
) -> None:
    store.set_alias("flowers@prod", "flowers")
    with pytest.raises(FailedPrecondition, match="flowers@prod"):
        store.drop("flowers")
    assert store.exists("flowers")
    store.aliases.delete("flowers@prod")
    store.drop("flowers")
    assert not store.exists("flowers")


def test_a_tag_is_found_by_name_and_an_alias_goes_before_it(
    store: CollectionStore, spec: CollectionSpec, collection: Collection
) -> None:
    version = write(collection, "a")
    collection.tag("prod", version)
    assert resolved(store, "flowers@prod") == ("flowers", version)
    store.create("flowers2", spec)
    store.set_alias("flowers@prod", "flowers2")
    assert resolved(store, "flowers@prod") == ("flowers2", None)


# Places ------------------------------------------------------------------------------------------------


def test_a_data_uri_leads_to_its_place(tmp_path: Path) -> None:
    for data in (tmp_path, str(tmp_path), tmp_path.as_uri()):
        place = open_place(data, "collections")
        assert isinstance(place, LocalPlace)
        assert place.uri("x.lance") == str(tmp_path / "collections" / "x.lance")
    for data in ("s3://bucket/data/", "gs://bucket/data", "az://bucket/data"):
        place = open_place(data, "collections")
        assert isinstance(place, ObjectPlace)
        assert place.uri("x.lance") == f"{data.rstrip('/')}/collections/x.lance"


@pytest.mark.parametrize("data", ["ftp://host/data", "http://host/data", "hdfs://x"])
def test_other_kinds_of_uri_are_refused(data: str) -> None:
    with pytest.raises(InvalidArgument, match="s3://"):
        CollectionStore(data)


def test_small_files_of_a_local_place(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path / "absent")
    assert (place.texts("x"), place.folders(), place.read_text("x/a.json")) == ([], [], None)
    assert not place.delete_text("x/a.json")
    place.write_text("x/a.json", "é")
    place.write_text("x/a.json", "ü")
    assert (place.texts("x"), place.read_text("x/a.json"), place.folders()) == (["a.json"], "ü", ["x"])
    assert [entry.name for entry in (tmp_path / "absent" / "x").iterdir()] == ["a.json"]
    assert place.delete_text("x/a.json")
    assert place.texts("x") == []


def test_what_a_killed_removal_left_is_swept(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path)
    place.write_text("a.lance/_versions/1.manifest", "x")
    (tmp_path / ".dropped-0").mkdir()
    place.remove("a.lance")
    place.sweep()
    assert list(tmp_path.iterdir()) == []
