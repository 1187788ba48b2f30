"""Collections in an object store: the same laws as in a folder, against moto's S3."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from trunkline_service.collections.aliases import Alias
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.place import open_place
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, FailedPrecondition, StorageError

SECRET = np.random.default_rng(3).standard_normal(4, np.float32)


@pytest.fixture
def bucket(s3_bucket: str) -> Any:
    """A bucket of this test's own: its file system and its name."""
    from pyarrow import fs

    return fs.FileSystem.from_uri(s3_bucket)


@pytest.fixture
def store(bucket: Any) -> CollectionStore:
    # A day ahead: versions are dated by the machine's clock, and all of them are then old.
    return CollectionStore(f"s3://{bucket[1]}/data", clock=lambda: datetime.now(UTC) + timedelta(days=1))


@pytest.fixture
def collection(store: CollectionStore, spec: CollectionSpec) -> Collection:
    return store.create("flowers", spec)


def write(collection: Collection, *names: str, **values: Any) -> int:
    rows = [Row(name, np.ones(4, np.float32), **values) for name in names]
    return collection.upsert(rows, space_id="sp1-a", decode="exact")


def ids_of(collection: Collection, version: int | None = None) -> Counter[str]:
    batches = collection.scan(["id"], version=version)
    return Counter(name for batch in batches for name in batch.column("id").to_pylist())


def in_threads(count: int, work: Any) -> None:
    """Runs ``work(number)`` in as many threads at once; raises what one of them raises."""
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        work(number)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, range(count)))


def test_of_creators_at_once_one_wins(store: CollectionStore, spec: CollectionSpec) -> None:
    for turn in range(3):
        made: list[str] = []
        refused: list[str] = []

        def create(
            _: int, name: str = f"c{turn}", made: list[str] = made, refused: list[str] = refused
        ) -> None:
            try:
                made.append(store.create(name, spec).revision.uid)
            except FailedPrecondition as exc:
                refused.append(exc.message)

        in_threads(8, create)
        assert (len(made), len(refused)) == (1, 7)
        assert all("already" in message for message in refused)
        assert store.open(f"c{turn}").revision == (made[0], 1)
    assert store.names() == ["c0", "c1", "c2"]


def test_writers_of_overlapping_ids_double_no_row(collection: Collection) -> None:
    def work(writer: int) -> None:
        for turn in range(4):
            write(collection, *(f"shared{turn + number}" for number in range(5)), f"{writer}-{turn}")

    in_threads(2, work)
    own = {f"{writer}-{turn}" for writer in range(2) for turn in range(4)}
    assert ids_of(collection) == Counter({*(f"shared{number}" for number in range(8)), *own})


def test_rows_versions_and_tags(store: CollectionStore, collection: Collection) -> None:
    two = write(collection, "a", "b", label="rose", metadata={"colour": "red"})
    collection.delete(["b"])
    (row,) = collection.get(["a"])
    assert (row.label, row.metadata) == ("rose", {"colour": "red"})
    assert collection.find(["b", "a"]).keys() == {"a"}
    assert collection.find(["b"], version=two).keys() == {"b"}
    collection.tag("both", two)
    assert store.resolve("flowers@both").version == two
    assert (collection.tags(), collection.versions()[0].rows) == ({"both": two}, 1)
    collection.untag("both")
    assert collection.tags() == {}
    collection.restore(two)
    assert ids_of(collection) == Counter("ab")
    assert collection.info().size_bytes == collection.stats().bytes > 0


def test_aliases_are_small_objects(store: CollectionStore, collection: Collection) -> None:
    assert store.aliases.all() == []
    version = write(collection, "a")
    store.set_alias("flowers@prod", "flowers")
    store.set_alias("flowers@prod", "flowers", version)
    assert store.aliases.all() == [Alias("flowers@prod", "flowers", version)]
    assert store.resolve("flowers@prod").version == version
    assert store.names() == ["flowers"]
    store.aliases.delete("flowers@prod")
    with pytest.raises(CollectionNotFound):
        store.aliases.delete("flowers@prod")
    assert store.aliases.find("flowers@prod") is None


def test_dropping_removes_every_object_and_frees_the_name(
    bucket: Any, store: CollectionStore, spec: CollectionSpec, collection: Collection
) -> None:
    from pyarrow import fs

    write(collection, "a")
    store.drop("flowers")
    assert store.names() == []
    left = bucket[0].get_file_info(fs.FileSelector(bucket[1], recursive=True))
    assert [entry.path for entry in left if entry.is_file] == []
    for attempt in (collection.info, lambda: store.open("flowers"), lambda: store.drop("flowers")):
        with pytest.raises(CollectionNotFound):
            attempt()
    store.create("flowers", spec)
    assert ids_of(store.open("flowers")) == Counter()


def test_compaction_and_purge_leave_the_other_rows_alone(
    bucket: Any, store: CollectionStore, collection: Collection
) -> None:
    from pyarrow import fs

    def holding(needle: bytes) -> list[str]:
        found = bucket[0].get_file_info(fs.FileSelector(bucket[1], recursive=True))
        files = [entry.path for entry in found if entry.is_file]
        return [path for path in files if needle in bucket[0].open_input_stream(path).read()]

    collection.upsert([Row("the-secret-id", SECRET)], space_id="sp1-a", decode="exact")
    for name in "abc":
        write(collection, name)
    done = collection.compact(timedelta(0))
    assert (done.fragments_before, done.fragments_after) == (4, 1)
    assert done.versions_removed >= 5
    assert holding(SECRET.tobytes())
    purged = collection.purge(["the-secret-id"])
    assert (purged.rows, purged.unowned_files) == (1, 0)
    assert holding(SECRET.tobytes()) == holding(b"the-secret-id") == []
    assert ids_of(collection) == Counter("abc")
    assert len(collection.versions()) == 1


def test_writers_at_work_while_versions_are_removed(collection: Collection) -> None:
    working = threading.Semaphore(0)

    def work(number: int) -> None:
        if number == 2:
            while not working.acquire(blocking=False):
                with suppress(StorageError):
                    collection.compact(timedelta(0))
            return
        try:
            for turn in range(4):
                write(collection, "shared", f"{number}-{turn}")
        finally:
            working.release()

    in_threads(3, work)
    own = {f"{writer}-{turn}" for writer in range(2) for turn in range(4)}
    assert ids_of(collection) == Counter({"shared", *own})


def test_small_files_of_an_object_place(bucket: Any) -> None:
    place = open_place(f"s3://{bucket[1]}/deep/data", "collections")
    assert (place.texts("x"), place.folders(), place.read_text("x/a.json")) == ([], [], None)
    assert (place.holds("x"), place.size("x")) == (False, 0)
    place.write_text("x/a.json", "é")
    place.write_text("x/a.json", "ü")
    assert (place.texts("x"), place.read_text("x/a.json"), place.folders()) == (["a.json"], "ü", ["x"])
    assert place.size("x") == 2
    assert place.delete_text("x/a.json")
    assert not place.delete_text("x/a.json")


def test_a_store_that_does_not_answer_as_it_should_is_a_storage_error(
    bucket: Any, spec: CollectionSpec
) -> None:
    with pytest.raises(StorageError, match="flowers"):
        CollectionStore("s3://no-such-bucket/data").create("flowers", spec)
