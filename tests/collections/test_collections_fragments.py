"""Fragments: what they hold, and that their keys and stamps say what changed."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments, joined_stamps
from trunkline_service.collections.partial import Touched
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument, StorageError


def vector(number: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array([number, 1, 0, 0], np.float32)


def write(collection: Collection, *names: str, number: float = 0, **values: object) -> None:
    rows = [Row(name, vector(number), source=f"{name}.jpg", **values) for name in names]  # type: ignore[arg-type]
    collection.upsert(rows, space_id="sp1-a", decode="exact")


def failed(collection: Collection, name: str) -> None:
    row = Row(name, None, status="error", error="truncated_image")
    collection.upsert([row], space_id="sp1-a", decode="exact")


def contents(fragments: Fragments) -> dict[str, tuple[float, str | None, str]]:
    return {
        name: (float(embedding[0]), label, source)
        for batch in fragments.batches(batch_rows=2)
        for name, embedding, label, source in zip(
            batch.ids.to_pylist(),
            batch.embeddings,
            batch.labels.to_pylist(),
            batch.sources.to_pylist(),
            strict=True,
        )
    }


def stamped(fragments: Fragments) -> dict[int, tuple[int, str]]:
    """The writing version and the fragment's key of each row id."""
    found = fragments.stamps()
    places = [fragments.keys[place] for place in found.fragment.tolist()]
    return dict(zip(found.row_ids.tolist(), zip(found.written.tolist(), places, strict=True), strict=True))


def test_rows_of_status_ok_are_given_with_their_stamps(collection: Collection) -> None:
    write(collection, "a", "b", number=1, label="x")
    failed(collection, "c")
    write(collection, "d", number=2)
    found = collection.fragments()
    assert contents(found) == {"a": (1, "x", "a.jpg"), "b": (1, "x", "b.jpg"), "d": (2, None, "d.jpg")}
    assert found.count() == 4
    assert (found.version, found.uid, found.spec) == (
        collection.version,
        collection.revision.uid,
        collection.spec,
    )
    batches = list(found.batches(batch_rows=1))
    assert [len(batch.embeddings) for batch in batches] == [1, 1, 1]
    joined, alone = joined_stamps([batch.stamps for batch in batches]), found.stamps()
    for one, other in zip(joined, alone, strict=True):
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist()
    assert np.unique(alone.row_ids).tolist() == sorted(collection.row_ids("status = 'ok'").tolist())
    assert alone.only(np.array([False, True, False])).row_ids.tolist() == [alone.row_ids[1]]


def test_an_empty_collection_has_none(collection: Collection) -> None:
    found = collection.fragments()
    assert (found.keys, found.count(), list(found.batches()), found.stamps().row_ids.tolist()) == (
        (),
        0,
        [],
        [],
    )
    row_ids, values = found.column("label")
    assert (row_ids.tolist(), values.to_pylist()) == ([], [])


def test_only_the_fragments_that_are_asked_for_are_read(collection: Collection) -> None:
    for number, name in enumerate("abc"):
        write(collection, name, number=number)
    found = collection.fragments()
    assert len(found.keys) == len(set(found.keys)) == 3
    for place, key in enumerate(found.keys):
        (batch,) = found.batches([key])
        assert batch.ids.to_pylist() == ["abc"[place]]
        assert batch.stamps.fragment.tolist() == found.stamps([key]).fragment.tolist() == [place]
    assert list(found.batches([])) == []
    assert [name for batch in found.batches(found.keys[1:]) for name in batch.ids.to_pylist()] == ["b", "c"]


def test_only_what_was_written_since_is_read(collection: Collection) -> None:
    write(collection, "a", "b")
    write(collection, "b", number=7)
    collection.compact()
    written = collection.fragments().stamps().written
    assert len(np.unique(written)) == 2
    (batch,) = collection.fragments().batches(written_since=int(written.max()))
    assert (batch.ids.to_pylist(), batch.embeddings[:, 0].tolist()) == (["b"], [7.0])


@pytest.mark.parametrize("how", ["upsert", "refresh", "touch", "relabel", "relabel_where", "column"])
def test_a_change_gives_the_row_another_stamp_and_its_fragment_another_key(
    collection: Collection, how: str
) -> None:
    write(collection, "a", "b", label="x")
    write(collection, "other")
    old = collection.fragments()
    before, ids = stamped(old), collection.row_ids("id = 'a'").tolist()
    match how:
        case "upsert":
            write(collection, "a", number=5)
        case "refresh":
            collection.refresh([Row("a", vector(5))], space_id="sp1-a", decode="exact")
        case "touch":
            collection.touch([Touched("a", "moved.jpg", 1, 1.0, None)])
        case "relabel":
            collection.relabel({"a": "y"})
        case "relabel_where":
            collection.relabel_where("y", "id = 'a'")
        case "column":
            write(collection, "a", metadata={"colour": "red"})
    now = collection.fragments()
    after = stamped(now)
    changed = [row_id for row_id, (written, _) in after.items() if before[row_id][0] != written]
    assert changed == ids
    assert after[changed[0]][1] not in old.keys
    assert contents(now) != contents(old) or how == "column"
    assert set(after) == set(before)
    assert contents(collection.fragments(old.version)) == contents(old)


def test_a_deletion_gives_its_fragment_another_key_and_the_others_stay(collection: Collection) -> None:
    write(collection, "a", "b")
    write(collection, "c")
    old = collection.fragments()
    collection.delete(["a"])
    now = collection.fragments()
    assert [key in old.keys for key in now.keys] == [False, True]
    assert set(contents(now)) == {"b", "c"}
    collection.delete(["b"])
    assert set(contents(collection.fragments())) == {"c"}


def test_compaction_moves_rows_and_changes_none(collection: Collection) -> None:
    for name in "abcd":
        write(collection, name)
    collection.delete(["b"])
    old = collection.fragments()
    collection.compact()
    now = collection.fragments()
    assert not set(now.keys) & set(old.keys)
    before, after = stamped(old), stamped(now)
    assert {row_id: written for row_id, (written, _) in after.items()} == {
        row_id: written for row_id, (written, _) in before.items()
    }


def test_a_version_that_is_set_back_has_the_keys_and_stamps_that_it_had(collection: Collection) -> None:
    write(collection, "a", "b")
    old = collection.fragments()
    write(collection, "b", number=5)
    newer = collection.fragments()
    collection.restore(old.version)
    now = collection.fragments()
    assert (now.keys, stamped(now)) == (old.keys, stamped(old))
    write(collection, "b", number=6)
    again = collection.fragments()
    assert set(stamped(again).values()).isdisjoint(set(stamped(newer).values()) - set(stamped(old).values()))


def test_values_of_a_column_come_with_the_row_ids(collection: Collection) -> None:
    write(collection, "a", metadata={"year": 2001})
    write(collection, "b")
    failed(collection, "c")
    row_ids, years = collection.fragments().column("year")
    by_id = dict(zip(row_ids.tolist(), years.to_pylist(), strict=True))
    wanted = {"a": 2001, "b": None}
    assert by_id == {collection.row_ids(f"id = '{name}'").tolist()[0]: wanted[name] for name in wanted}


@pytest.mark.parametrize("name", ["colour", "embedding", "_rowid"])
def test_a_column_that_cannot_be_grouped_by_is_refused(collection: Collection, name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"no column '{name}'.* id, .*label"):
        collection.fragments().column(name)


def test_a_multi_label_collection_gives_lists(store: CollectionStore, spec: CollectionSpec) -> None:
    collection = store.create("many", dataclasses.replace(spec, multi_label=True))
    rows = [Row("a", vector(1), ("x", "y")), Row("b", vector(1), ()), Row("c", vector(1), None)]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    (batch,) = collection.fragments().batches()
    assert batch.labels.to_pylist() == [["x", "y"], [], None]


def test_a_version_that_was_removed_says_so(tmp_path: Path, spec: CollectionSpec) -> None:
    collection = CollectionStore(tmp_path).create("flowers", spec)
    write(collection, "a", "b")
    write(collection, "a")
    old = collection.fragments()
    assert old.keys
    collection.compact(keep=timedelta(0))
    with pytest.raises(StorageError, match="'flowers' can't be read"):
        list(old.batches())
    with pytest.raises(InvalidArgument, match=f"no version {old.version} "):
        collection.fragments(old.version)
