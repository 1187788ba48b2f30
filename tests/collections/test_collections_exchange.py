"""Collections out to files and back, whole and by changes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.exchange.importing import import_npy, import_parquet
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument, StorageError

NOON = datetime(2025, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def vector(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(4, np.float32)


def row(name: str, seed: int = 0, **values: Any) -> Row:
    return Row(name, **{"embedding": vector(seed), **values})


def bad(name: str) -> Row:
    return Row(name, None, status="error", error="truncated_image: ends early")


def write(collection: Collection, *rows: Row) -> int:
    return collection.upsert(rows, space_id=collection.spec.space_id, decode=None, allow_mixed_decode=True)


def facts(collection: Collection) -> dict[str, dict[str, Any]]:
    """Every column of every row, comparable."""
    found = {}
    for batch in collection.scan():
        for values in batch.to_pylist():
            found[values["id"]] = {name: value for name, value in values.items() if value is not None}
    return found


# Round trips -------------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=4)
labels = st.none() | texts
stored_rows = st.builds(
    Row,
    id=texts.filter(bool),
    embedding=st.integers(0, 9).map(vector),
    label=labels,
    split=labels,
    source=texts,
    content_hash=texts,
    etag=labels,
    size=st.none() | st.integers(0, 2**62),
    mtime=st.none() | st.floats(0, 1e10),
    decode=st.sampled_from(["exact", "fast"]),
    job=labels,
    embedded_at=st.none() | st.integers(0, 10**9).map(lambda us: NOON + timedelta(microseconds=us)),
    metadata=st.fixed_dictionaries(
        {},
        optional={
            "number": st.floats(allow_nan=False, allow_infinity=False),
            "whole": st.integers(-(2**63), 2**63 - 1),
            "text": texts,
            "truth": st.booleans(),
            "moment": st.just(NOON),
        },
    ),
) | texts.filter(bool).map(bad)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(stored_rows, max_size=6), st.integers(1, 3))
def test_what_was_exported_comes_back_equal(
    tmp_path: Path, store: CollectionStore, spec: CollectionSpec, rows: list[Row], batch: int
) -> None:
    for name in ("one", "two"):
        if store.exists(name):
            store.drop(name)
    one = store.create("one", spec)
    write(one, *rows)
    path = tmp_path / "out.parquet"
    assert one.export_parquet(path) == len({row.id for row in rows})
    # By another's clock: a row's moment is that of its embedding, and not of the import.
    later = CollectionStore(tmp_path / "data", clock=lambda: NOON + timedelta(days=999))
    done = import_parquet(later, path, "two", batch_rows=batch)
    two = store.open("two")
    assert two.spec == one.spec
    assert facts(two) == facts(one)
    info = two.info()
    assert (done.rows, done.errors, done.created, done.collection) == (info.rows, info.errors, True, "two")
    assert done.version == two.version


@pytest.mark.parametrize("changes", [{"dtype": "float16"}, {"multi_label": True}, {"pretrained": False}])
def test_every_kind_of_collection_comes_back(
    tmp_path: Path, store: CollectionStore, spec: CollectionSpec, changes: dict[str, Any]
) -> None:
    one = store.create("one", replace(spec, **changes))
    label = ("rose", "red") if one.spec.multi_label else "rose"
    write(one, row("a", 1, label=label), row("b", 2))
    one.export_parquet(tmp_path / "out.parquet")
    import_parquet(store, tmp_path / "out.parquet", "two")
    assert store.open("two").spec == one.spec
    assert facts(store.open("two")) == facts(one)


def test_an_import_into_what_is_there_replaces_by_id(
    tmp_path: Path, store: CollectionStore, collection: Collection
) -> None:
    write(collection, row("a", 1, label="old"), row("b", 2))
    collection.export_parquet(tmp_path / "out.parquet")
    write(collection, row("a", 3, label="new"), row("c", 4))
    done = import_parquet(store, tmp_path / "out.parquet", "flowers", space_id="sp1-a")
    assert (done.rows, done.created) == (2, False)
    assert {name: values.get("label") for name, values in facts(collection).items()} == {
        "a": "old", "b": None, "c": None,
    }  # fmt: skip


# Export by parts ---------------------------------------------------------------------------------------


def test_an_export_takes_columns_a_condition_and_a_version(tmp_path: Path, collection: Collection) -> None:
    version = write(collection, row("a", label="it's"), row("b", label="lily"), bad("c"))
    write(collection, row("d", label="it's"))
    path = tmp_path / "out.parquet"
    asked: dict[str, Any] = {
        "columns": ["label", "id"],
        "where": "label = ? OR status = 'error'",
        "parameters": ["it's"],
    }
    assert collection.export_parquet(path, version=version, **asked) == 2
    table = pq.read_table(path)
    assert table.to_pydict() == {"label": ["it's", None], "id": ["a", "c"]}
    assert collection.export_parquet(path, include_errors=False, **asked) == 2
    assert pq.read_table(path).column("id").to_pylist() == ["a", "d"]
    for wrong in ({"columns": ["colour"]}, {"where": "colour = 1"}, {"version": 99}, {"since": 99}):
        with pytest.raises(InvalidArgument):
            collection.export_parquet(path, **wrong)
    assert pq.read_table(path).num_rows == 2


def applied(copy: dict[str, dict[str, Any]], path: Path) -> dict[str, dict[str, Any]]:
    """A copy after the changes in a file."""
    following = dict(copy)
    for values in pq.read_table(path).to_pylist():
        change = values.pop("change")
        given = {name: value for name, value in values.items() if value is not None}
        if change == "delete":
            assert set(given) == {"id"}
            following.pop(given["id"], None)
        else:
            assert change == "upsert"
            following[given["id"]] = given
    return following


@pytest.mark.parametrize("options", [{}, {"where": "label = 'rose'"}, {"include_errors": False}])
def test_a_copy_that_follows_the_exports_is_as_a_full_export(
    tmp_path: Path, collection: Collection, options: dict[str, Any]
) -> None:
    path = tmp_path / "out.parquet"

    def full() -> dict[str, dict[str, Any]]:
        collection.export_parquet(path, **options)
        return {
            values["id"]: {k: v for k, v in values.items() if v is not None}
            for values in pq.read_table(path).to_pylist()
        }

    base = write(collection, *(row(name, label="rose") for name in "abcdef"), row("x", label="lily"))
    copy = full()
    write(collection, row("a", 9, label="rose"), row("g", label="rose"), row("h", label="lily"), bad("f"))
    collection.relabel({"b": "lily", "x": "rose", "c": None})
    collection.delete(["d", "e"])
    write(collection, row("e", 3, label="rose"))
    rows = collection.export_parquet(path, since=base, **options)
    assert rows == 9
    changed = pq.read_table(path)
    assert changed.column("id").to_pylist().count("d") == 1
    assert json.loads(changed.schema.metadata[b"trunkline_changes"]) == {
        "since": base,
        "version": collection.version,
    }
    assert applied(copy, path) == full()


def test_an_export_of_changes_has_the_id_and_the_columns_asked_for(
    tmp_path: Path, collection: Collection
) -> None:
    base = write(collection, row("a"), row("b"))
    write(collection, row("a", label="rose"))
    collection.delete(["b"])
    collection.export_parquet(tmp_path / "out.parquet", since=base, columns=["label"])
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
        {"id": "a", "label": "rose", "change": "upsert"}, {"id": "b", "label": None, "change": "delete"},
    ]  # fmt: skip
    write(collection, row("c", metadata={"change": "mine"}))
    with pytest.raises(InvalidArgument, match="a column 'change' of its own"):
        collection.export_parquet(tmp_path / "out.parquet", since=base)


def test_changes_are_not_taken_for_a_collection(
    tmp_path: Path, store: CollectionStore, collection: Collection
) -> None:
    write(collection, row("a"))
    collection.export_parquet(tmp_path / "out.parquet", since=1)
    with pytest.raises(InvalidArgument, match="export in full"):
        import_parquet(store, tmp_path / "out.parquet", "two")
    assert store.names() == ["flowers"]


# NumPy -------------------------------------------------------------------------------------------------


def test_a_matrix_and_its_ids_go_out_and_come_back(
    tmp_path: Path, store: CollectionStore, collection: Collection
) -> None:
    rows = [row(f"n{number}", number) for number in range(30)]
    version = write(collection, *rows[:20], bad("broken"))
    write(collection, *rows[20:])
    path = tmp_path / "out.npy"
    assert collection.export_npy(path) == 30
    matrix = np.load(path, allow_pickle=False)
    ids = (tmp_path / "out.npy.ids.txt").read_text().splitlines()
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.stack([vector(int(name[1:])) for name in ids]))
    assert sorted(ids) == sorted(entry.id for entry in rows)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data", "out.npy", "out.npy.ids.txt"]
    done = import_npy(store, path, tmp_path / "out.npy.ids.txt", "two", "mine", batch_rows=7)
    assert (done.rows, done.errors, done.created) == (30, 0, True)
    two = store.open("two")
    assert two.spec == CollectionSpec("declared:mine", 4, "", "", "unknown", declared=True)
    assert {name: values["embedding"] for name, values in facts(two).items()} == {
        entry.id: vector(number).tolist() for number, entry in enumerate(rows)
    }
    assert collection.export_npy(path, "id = ?", ["n1"], version) == 1
    assert np.load(path).shape == (1, 4)
    assert collection.export_npy(path, "id = 'none'") == 0
    assert np.load(path).shape == (0, 4)


def test_ids_with_line_breaks_are_written_as_json(
    tmp_path: Path, store: CollectionStore, collection: Collection
) -> None:
    path = tmp_path / "out.npy"
    write(collection, row("a"))
    collection.export_npy(path)
    names = ["a\nb", "c\rd", '"q"', "é\u2028"]
    write(collection, *(row(name, number) for number, name in enumerate(names)))
    collection.export_npy(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data", "out.npy", "out.npy.ids.jsonl"]
    import_npy(store, path, tmp_path / "out.npy.ids.jsonl", "two", "mine")
    assert set(facts(store.open("two"))) == {"a", *names}
    collection.delete(["a\nb", "c\rd"])
    collection.export_npy(path)
    import_npy(store, path, tmp_path / "out.npy.ids.txt", "three", "mine")
    assert set(facts(store.open("three"))) == {"a", '"q"', "é\u2028"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data", "out.npy", "out.npy.ids.txt"]


def test_a_failed_export_of_a_matrix_leaves_what_was_there(tmp_path: Path, collection: Collection) -> None:
    write(collection, row("a"))
    path = tmp_path / "out.npy"
    collection.export_npy(path)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir() if entry.is_file()}
    for file in Path(collection.key, "data").iterdir():
        file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(StorageError):
        collection.export_npy(path)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir() if entry.is_file()} == before
    for target in (tmp_path / "absent" / "out.npy", tmp_path / "data"):
        with pytest.raises(InvalidArgument, match="folder"):
            collection.export_npy(target)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
def test_matrices_of_any_float_are_read(tmp_path: Path, store: CollectionStore, dtype: str) -> None:
    matrix = np.array([[1, 2], [np.nan, 0], [3, np.inf], [4, 5]], dtype)
    if dtype == "<f8":
        matrix[3, 1] = 1e300
    np.save(tmp_path / "m.npy", np.asfortranarray(matrix))
    (tmp_path / "ids.txt").write_text("a\r\nb\r\nc\r\nd")
    done = import_npy(store, tmp_path / "m.npy", tmp_path / "ids.txt", "two", "mine")
    two = store.open("two")
    bad_ids = {"b", "c"} | ({"d"} if dtype == "<f8" else set())
    assert (done.rows, done.errors) == (4 - len(bad_ids), len(bad_ids))
    assert {name for name, values in facts(two).items() if values["status"] == "error"} == bad_ids
    assert facts(two)["b"]["error"] == "non_finite_embedding: its vector holds NaN or infinity"
    assert facts(two)["a"]["embedding"] == [1, 2]
    assert two.spec.dtype == ("float16" if dtype == "<f2" else "float32")


@pytest.mark.parametrize(
    ("array", "ids", "words"),
    [(np.ones((2, 3)), "a\n", "1 ids.*2 rows"), (np.ones((1, 3)), "a\nb\n", "2 ids.*1 rows"),
     (np.ones((2, 3)), "a\n\nb\n", "line 2 holds no id"), (np.ones(3), "a", "shape"),
     (np.ones((1, 3), int), "a", "int64"), (np.ones((1, 0)), "a", "shape"),
     (np.array([[{}]], object), "a", "can't be read"), (np.ones((1, 3)), b"\xff", "can't be read as ids")],
)  # fmt: skip
def test_matrices_that_can_not_be_read_are_refused_and_make_nothing(
    tmp_path: Path, store: CollectionStore, array: Any, ids: str | bytes, words: str
) -> None:
    np.save(tmp_path / "m.npy", array, allow_pickle=True)
    (tmp_path / "ids.txt").write_bytes(ids if isinstance(ids, bytes) else ids.encode())
    with pytest.raises(InvalidArgument, match=words):
        import_npy(store, tmp_path / "m.npy", tmp_path / "ids.txt", "two", "mine")
    assert store.names() == []
