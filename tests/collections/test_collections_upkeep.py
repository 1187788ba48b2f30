"""Compaction keeps rows and what is named; a purge leaves no byte; neither harms writers at work."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest

from trunkline_service.collections import upkeep
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.handle import merging
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import FailedPrecondition, InvalidArgument, StorageError

DIM = 8
SPEC = CollectionSpec(space_id="sp1-a", dim=DIM, model="tiny@1", artifact_id="ar1-a", decode="exact")
NOW = timedelta(0)
# Of no repeating bytes, so that no encoding can hide it; and 64 bytes cannot come about by chance.
SECRET = np.random.default_rng(3).standard_normal(DIM, np.float32)
SECRET_ID = "the-secret-id-9f1c"


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    # A day ahead: Lance dates versions by the machine's clock, and all of them are then old.
    return CollectionStore(tmp_path, clock=lambda: datetime.now(UTC) + timedelta(days=1))


@pytest.fixture
def collection(store: CollectionStore) -> Collection:
    return store.create("flowers", SPEC)


def row(name: str, **values: Any) -> Row:
    vector = np.random.default_rng(sum(map(ord, name))).standard_normal(DIM, np.float32)
    return Row(name, **{"embedding": vector, **values})


def write(collection: Collection, *rows: Row) -> int:
    return collection.upsert(rows, space_id="sp1-a", decode="exact")


def secret(**values: Any) -> Row:
    return Row(SECRET_ID, SECRET, **values)


def contents(collection: Collection) -> dict[str, tuple[int, bytes]]:
    matrix = collection.matrix()
    rows = zip(matrix.row_ids.tolist(), matrix.embeddings, strict=True)
    return {
        name: (row_id, vector.tobytes())
        for name, (row_id, vector) in zip(matrix.ids.to_pylist(), rows, strict=True)
    }


def holding(collection: Collection, needle: bytes) -> list[str]:
    files = (file for file in Path(collection.key).rglob("*") if file.is_file())
    return [str(file) for file in files if needle in file.read_bytes()]


def test_compaction_merges_files_and_keeps_rows_and_row_ids(collection: Collection) -> None:
    for number in range(6):
        write(collection, row(f"n{number}"), row(f"m{number}"))
    collection.delete(["m0", "m3"])
    before = contents(collection)
    done = collection.compact()
    assert (done.fragments_before, done.fragments_after, done.version) == (6, 1, collection.version)
    assert contents(collection) == before
    assert len(before) == 10


def test_old_versions_go_and_their_bytes_with_them(store: CollectionStore, collection: Collection) -> None:
    for number in range(4):
        write(collection, row(f"n{number % 2}", label=str(number)))
    size = collection.info().size_bytes
    there = len(collection.versions())
    kept = collection.compact(timedelta(days=2))
    assert (kept.versions_removed, kept.bytes_freed) == (0, 0)
    done = collection.compact(NOW)
    assert done.versions_removed >= there
    assert done.bytes_freed > 0
    assert collection.info().size_bytes < size
    assert [info.version for info in collection.versions()] == [collection.version] == [done.version]
    with pytest.raises(InvalidArgument, match="no version 2"):
        collection.matrix(version=2)


def test_the_version_that_was_the_latest_until_now_is_not_old(collection: Collection) -> None:
    first = write(collection, row("a"), row("b"))
    last = write(collection, row("a"), row("b"))
    collection.compact(timedelta(hours=1))
    known = [info.version for info in collection.versions()]
    assert last in known
    assert first not in known
    assert list(collection.changes(last).upserted()) == []


def test_what_is_tagged_or_has_an_alias_stays(store: CollectionStore, collection: Collection) -> None:
    versions = [write(collection, row(name)) for name in "abcd"]
    collection.tag("kept", versions[0])
    store.set_alias("flowers@prod", "flowers", versions[2])
    store.set_alias("flowers@latest", "flowers")
    collection.compact(NOW)
    assert {info.version for info in collection.versions()} == {versions[0], versions[2], collection.version}
    assert collection.matrix(version=versions[0]).ids.to_pylist() == ["a"]
    assert len(store.resolve("flowers@prod").collection.matrix(version=versions[2])) == 3


def test_a_collection_of_one_version_is_left_alone(collection: Collection) -> None:
    assert collection.compact(NOW) == upkeep.Compacted(1, 0, 0, 0, 0)
    with pytest.raises(InvalidArgument, match="zero or more"):
        collection.compact(timedelta(days=-1))


def test_an_index_that_somebody_made_is_not_merged_by(collection: Collection) -> None:
    write(collection, row("a"))
    lance.dataset(collection.key).create_scalar_index("id", "BTREE")
    snapshot = collection._handle.open()
    merge = merging(snapshot).when_matched_update_all().when_not_matched_insert_all()
    # Lance refuses to explain a merge by an index.
    assert "HashJoin" in merge.explain_plan(snapshot.dataset.schema)
    write(collection, row("b"), row("a", label="x"))
    collection.compact(NOW)
    assert [found.label for found in collection.get(["b", "a"])] == [None, "x"]


def test_stats_say_how_it_is_stored(collection: Collection) -> None:
    write(collection, row("a"), row("b"), row("c", metadata={"colour": "red"}))
    write(collection, row("d"))
    collection.delete(["a"])
    found = collection.stats()
    assert (found.fragments, found.deleted_rows) == (2, 1)
    assert found.versions == len(collection.versions())
    assert found.bytes == collection.info().size_bytes
    assert found.columns == collection.columns()
    assert found.columns["colour"] == "string"


# Purging -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["ids", "where", "deleted before", "replaced before", "a file of its own"])
def test_after_a_purge_no_file_holds_the_row(collection: Collection, way: str) -> None:
    others = [row(f"n{number}") for number in range(50)]
    if way == "a file of its own":
        write(collection, secret())
        write(collection, *others)
    else:
        write(collection, *others[:25], secret(), *others[25:])
    lance.dataset(collection.key).create_scalar_index("id", "BTREE")
    write(collection, row("later"), row("n3", label="x"))
    assert holding(collection, SECRET.tobytes())
    assert holding(collection, SECRET_ID.encode())
    expected = contents(collection)
    expected.pop(SECRET_ID)
    rows = 1
    if way == "deleted before":
        rows = collection.delete_where("id = ?", [SECRET_ID]) - 1
    if way == "replaced before":
        write(collection, Row(SECRET_ID, None, status="error", error="gone"))
    if way == "where":
        done = collection.purge(where="id = ?", parameters=[SECRET_ID])
    else:
        done = collection.purge([SECRET_ID, "never there"])
    assert (done.rows, done.unowned_files) == (rows, 0)
    assert done.versions_removed > 0
    assert done.bytes_freed > 0
    assert holding(collection, SECRET.tobytes()) == []
    assert holding(collection, SECRET_ID.encode()) == []
    assert contents(collection) == expected
    assert len(collection.versions()) == 1
    (index,) = lance.dataset(collection.key).describe_indices()
    assert (index.field_names, index.index_type) == (["id"], "BTree")
    write(collection, secret())
    assert collection.get([SECRET_ID])[0].status == "ok"


def test_a_purge_of_every_row_leaves_an_empty_collection(collection: Collection) -> None:
    write(collection, secret(), row("a"))
    assert collection.purge(where="true").rows == 2
    assert len(collection.matrix()) == 0
    assert holding(collection, SECRET.tobytes()) == holding(collection, SECRET_ID.encode()) == []


def test_a_purge_is_refused_before_anything_is_deleted(
    store: CollectionStore, collection: Collection
) -> None:
    version = write(collection, secret())
    collection.tag("kept", version)
    store.set_alias("flowers@prod", "flowers", version)
    before = collection.version
    for attempt in (lambda: collection.purge([SECRET_ID]), lambda: collection.purge(where="true")):
        with pytest.raises(FailedPrecondition, match=r"alias 'flowers@prod'.*tag 'kept'.*untag it first"):
            attempt()
    assert collection.version == before
    assert SECRET_ID in contents(collection)
    collection.untag("kept")
    with pytest.raises(FailedPrecondition, match="alias 'flowers@prod'"):
        collection.purge([SECRET_ID])
    store.set_alias("flowers@prod", "flowers")
    assert collection.purge([SECRET_ID]).rows == 1


@pytest.mark.parametrize("arguments", [{}, {"ids": ["a"], "where": "true"}])
def test_a_purge_takes_ids_or_a_condition(collection: Collection, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="either ids or a condition"):
        collection.purge(**arguments)


def test_what_a_killed_writer_left_is_told_of_and_goes_where_no_one_writes(collection: Collection) -> None:
    write(collection, secret(), row("a"))
    (data,) = Path(collection.key, "data").iterdir()
    orphan = data.with_name("f" * 40 + ".lance")
    orphan.write_bytes(data.read_bytes())
    assert collection.purge([SECRET_ID]).unowned_files == 1
    assert holding(collection, SECRET.tobytes()) == [str(orphan)]
    assert collection.purge([SECRET_ID], exclusive=True).unowned_files == 0
    assert holding(collection, SECRET.tobytes()) == []
    assert list(contents(collection)) == ["a"]


# Writers at work ---------------------------------------------------------------------------------------


def test_a_write_that_began_before_versions_were_removed_doubles_no_row(collection: Collection) -> None:
    handle = collection._handle
    stale = handle.open()
    write(collection, row("a"), row("b"))
    write(collection, row("a"), row("c"))
    # What inserted "a" is no longer there to be seen, but for the fence.
    collection.compact(NOW)
    from trunkline_service.collections.convert import rows_to_table

    table = rows_to_table([row("a"), row("d")], stale.dataset.schema, handle.clock())
    merging(stale).when_matched_update_all().when_not_matched_insert_all().execute(table)
    found = Counter(name for batch in collection.scan(["id"]) for name in batch.column("id").to_pylist())
    assert found == Counter("abcd")


def test_writers_at_work_lose_and_double_nothing_while_versions_are_removed(collection: Collection) -> None:
    start = threading.Barrier(3)

    def work(writer: int) -> list[str]:
        start.wait()
        for turn in range(12):
            write(collection, *(row(f"shared{number}") for number in range(5)), row(f"{writer}-{turn}"))
        return [f"{writer}-{turn}" for turn in range(12)]

    with ThreadPoolExecutor(2) as pool:
        working = [pool.submit(work, writer) for writer in range(2)]
        start.wait()
        while not all(writer.done() for writer in working):
            versions = [info.version for info in collection.versions()]
            upkeep.remove_versions(collection._handle, versions)
        written = [name for writer in working for name in writer.result()]
    found = Counter(name for batch in collection.scan(["id"]) for name in batch.column("id").to_pylist())
    assert found == Counter({*(f"shared{number}" for number in range(5)), *written})


def test_the_fence_never_undoes_what_was_committed_first(collection: Collection) -> None:
    write(collection, row("a"))
    for change in (
        lambda: write(collection, row("b")),
        lambda: collection.delete(["a"]),
        lambda: collection.delete_where("id = 'b'"),
        lambda: write(collection, row("c", metadata={"colour": "red"})),
    ):
        stale = collection._handle.open()
        change()
        now = contents(collection)
        with pytest.raises((OSError, ValueError, RuntimeError), match="conflict"):
            upkeep._fence(stale)
        assert contents(collection) == now


def test_a_change_that_others_keep_crossing_is_given_up_with_the_reason(collection: Collection) -> None:
    tries = []

    def crossed(snapshot: Any) -> None:
        tries.append(snapshot.version)
        raise OSError("Retryable commit conflict for version 9")

    with pytest.raises(StorageError, match="Other writers kept committing first"):
        upkeep.retried(collection._handle, "compacted", crossed)
    assert len(tries) > 2

    def broken(snapshot: Any) -> None:
        tries.append(snapshot.version)
        raise OSError("No space left on device")

    tries.clear()
    with pytest.raises(StorageError, match="free space"):
        upkeep.retried(collection._handle, "compacted", broken)
    assert len(tries) == 1


def test_a_compaction_that_keeps_all_merges_files_and_removes_no_version(collection: Collection) -> None:
    versions = [write(collection, row(name)) for name in "abc"]
    before = contents(collection)
    done = collection.compact(keep=None)
    assert (done.fragments_before, done.fragments_after) == (3, 1)
    assert (done.versions_removed, done.bytes_freed) == (0, 0)
    assert [collection.info(version).rows for version in versions] == [1, 2, 3]
    assert contents(collection) == before
