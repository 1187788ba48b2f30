"""Rows in and out: upsert, get, delete, refusals, conditions, matrices, export."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import lance
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trunkline_service.collections.boundary import storage_errors
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.schema import read_record
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import (
    DecodeModeMismatch,
    InvalidArgument,
    RowNotFound,
    SpaceMismatch,
    StorageError,
)


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(4, np.float32)


def row(name: str, seed: int = 0, label: str | None = None) -> Row:
    return Row(name, vector(seed), label=label, source=f"{name}.jpg")


def bad(name: str) -> Row:
    return Row(name, None, status="error", error="truncated_image: ends early", size=7, mtime=1.5)


def write(collection: Collection, *rows: Row) -> int:
    return collection.upsert(rows, space_id="sp1-a", decode="exact")


def stored_ids(collection: Collection) -> list[str]:
    return [name for batch in collection.scan(["id"]) for name in batch.column("id").to_pylist()]


def test_rows_come_back_as_they_went_in_and_in_the_order_asked(collection: Collection) -> None:
    full = Row(
        "full", vector(1), label="rose", split="train", source="a/b.jpg", content_hash="h", etag="e",
        size=2**40, mtime=1.25, decode="exact", job="j",
    )  # fmt: skip
    before = collection.version
    after = write(collection, full, bad("bad"))
    assert after == collection.version > before
    second, first, again = collection.get(["bad", "full", "bad"])
    changing = {"embedding": None, "embedded_at": None}
    assert vars(first) | changing == vars(full) | changing
    assert first.embedded_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert first.embedding is not None
    assert full.embedding is not None
    assert first.embedding.tobytes() == full.embedding.tobytes()
    assert vars(second) | changing == vars(bad("bad")) == vars(again) | changing


def test_every_row_has_the_moment_of_its_write_unless_it_brings_one(collection: Collection) -> None:
    earlier = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
    write(collection, row("a"), replace(row("b"), embedded_at=earlier))
    (batch,) = collection.scan(["embedded_at"])
    moments = [moment.isoformat() for moment in batch.column(0).to_pylist()]
    assert moments == ["2026-03-01T12:00:00+00:00", "2025-01-02T01:04:05.678901+00:00"]
    with pytest.raises(InvalidArgument, match="time zone"):
        replace(row("c"), embedded_at=earlier.replace(tzinfo=None))


def test_of_one_id_twice_the_last_wins(collection: Collection) -> None:
    write(collection, row("a", 1, "first"), row("b"), row("a", 2, "last"))
    assert collection.get(["a"])[0].label == "last"
    assert len(collection.matrix()) == 2


def test_an_upsert_replaces_and_an_error_row_becomes_an_ok_one(collection: Collection) -> None:
    write(collection, bad("a"), row("b", 1))
    write(collection, row("a", 2), bad("b"))
    a, b = collection.get(["a", "b"])
    assert (a.status, a.error, b.status, b.embedding) == ("ok", None, "error", None)
    assert collection.matrix().ids.to_pylist() == ["a"]


def test_no_rows_make_no_version(collection: Collection) -> None:
    assert write(collection) == collection.version == 1
    assert collection.delete([]) == 0
    assert collection.version == 1


def test_missing_rows_are_named(collection: Collection) -> None:
    write(collection, row("a"))
    with pytest.raises(RowNotFound) as refusal:
        collection.get(["a", *(f"x{number}" for number in range(9))])
    assert "'x0', 'x1', 'x2', 'x3', 'x4' and 4 more" in refusal.value.message
    assert "'a'" not in refusal.value.message


def test_delete_counts_what_there_was(collection: Collection) -> None:
    write(collection, row("a"), row("b"), bad("c"))
    assert collection.delete(["a", "c", "a", "never"]) == 2
    assert stored_ids(collection) == ["b"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, unique=True, max_size=8))
def test_any_text_can_be_an_id(collection: Collection, ids: list[str]) -> None:
    collection.delete(stored_ids(collection))
    write(collection, *(row(name, label=name) for name in ids), row("' or '1'='1"))
    assert [found.label for found in collection.get(ids)] == ids
    assert collection.delete(ids) == len(ids)
    assert set(stored_ids(collection)) == {"' or '1'='1"} - set(ids)


def test_vectors_of_another_space_are_refused_naming_both(collection: Collection) -> None:
    with pytest.raises(SpaceMismatch) as refusal:
        collection.upsert([row("a")], space_id="sp1-b", decode="exact")
    assert "sp1-a" in refusal.value.message
    assert "sp1-b" in refusal.value.message
    assert collection.version == 1


@pytest.mark.parametrize("decode", ["fast", "exact"])
def test_another_decode_mode_is_refused_unless_allowed(collection: Collection, decode: str) -> None:
    fast = Row("a", vector(0), decode="fast")
    with pytest.raises(DecodeModeMismatch, match=r"'exact'.*'fast'"):
        collection.upsert([fast], space_id="sp1-a", decode=decode)
    with pytest.raises(DecodeModeMismatch):
        collection.upsert([row("a")], space_id="sp1-a", decode="fast")
    collection.upsert([fast], space_id="sp1-a", decode=decode, allow_mixed_decode=True)
    assert collection.get(["a"])[0].decode == "fast"


def test_another_dimension_is_refused_and_nothing_is_written(collection: Collection) -> None:
    with pytest.raises(InvalidArgument, match=r"'b'.*5 floats.*4"):
        write(collection, row("a"), Row("b", np.ones(5, np.float32)))
    assert stored_ids(collection) == []


def test_matrix_holds_ok_rows_alone_in_one_block(collection: Collection) -> None:
    write(collection, row("a", 1, "rose"), bad("b"))
    write(collection, row("c", 2, "lily"), bad("d"), row("e", 3))
    matrix = collection.matrix()
    assert len(matrix) == 3
    assert matrix.embeddings.dtype == np.float32
    assert matrix.embeddings.flags.c_contiguous
    assert matrix.version == collection.version
    found = dict(
        zip(
            matrix.ids.to_pylist(),
            zip(matrix.labels.to_pylist(), matrix.embeddings, strict=True),
            strict=True,
        )
    )
    for name, seed, label in (("a", 1, "rose"), ("c", 2, "lily"), ("e", 3, None)):
        assert found[name][0] == label
        np.testing.assert_array_equal(found[name][1], vector(seed))


def test_matrix_of_nothing_has_its_dimension(collection: Collection) -> None:
    assert collection.matrix().embeddings.shape == (0, 4)
    write(collection, bad("a"))
    assert collection.matrix().embeddings.shape == (0, 4)
    assert collection.matrix().ids.to_pylist() == []


def test_matrix_crosses_batches_and_files_with_each_vector_at_its_id(collection: Collection) -> None:
    names = [f"n{number}" for number in range(3000)]
    rows = [bad(name) if number % 7 == 3 else row(name, number) for number, name in enumerate(names)]
    write(collection, *rows[:2500])
    write(collection, *rows[2000:])
    matrix = collection.matrix()
    ids = matrix.ids.to_pylist()
    assert sorted(ids) == sorted(item.id for item in rows if item.status == "ok")
    expected = np.stack([vector(int(name[1:])) for name in ids])
    np.testing.assert_array_equal(matrix.embeddings, expected)


def test_a_condition_chooses_rows_and_an_older_version_stays_readable(collection: Collection) -> None:
    first = write(collection, row("a", 1, "rose"), row("b", 2, "lily"))
    write(collection, row("c", 3, "rose"))
    assert sorted(collection.matrix("label = 'rose'").ids.to_pylist()) == ["a", "c"]
    assert collection.matrix("label = 'rose'", version=first).ids.to_pylist() == ["a"]
    assert len(collection.row_ids("label = 'rose' -- a comment")) == 2
    for version in (0, 99):
        with pytest.raises(InvalidArgument, match="latest is 3"):
            collection.matrix(version=version)


@pytest.mark.parametrize(
    "where",
    ["label = ", "colour = 'red'", "label", "label = 'rose' adn split = 'x'", "", "1/0 = 1",
     "cast(source as int) = 1", "label in (select 1)"],
)  # fmt: skip
def test_a_condition_that_cannot_be_used_names_the_columns(collection: Collection, where: str) -> None:
    write(collection, row("a", label="rose"))
    for attempt in (
        lambda: collection.matrix(where),
        lambda: collection.row_ids(where),
        lambda: list(collection.scan(where=where)),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            attempt()
        assert "split, source, content_hash" in refusal.value.message
        assert ".rs" not in refusal.value.message


def test_scan_streams_the_columns_asked_for(collection: Collection) -> None:
    write(collection, *(row(f"n{number}", label=str(number % 2)) for number in range(10)))
    batches = list(collection.scan(["label", "id"], where="label = '1'", batch_size=2))
    assert all(batch.schema.names == ["label", "id"] and batch.num_rows <= 2 for batch in batches)
    assert sorted(name for batch in batches for name in batch.column("id").to_pylist()) == [
        "n1", "n3", "n5", "n7", "n9",
    ]  # fmt: skip
    with pytest.raises(InvalidArgument, match="no column 'colour'; the columns are id, "):
        collection.scan(["colour"])
    with pytest.raises(InvalidArgument):
        collection.scan(where="colour = 1")


def test_info_counts(collection: Collection) -> None:
    write(collection, row("a", label="z"), row("b", label="y"), row("c", label="y"), row("d"), bad("e"))
    write(collection, Row("f", None, label="y", status="error", error="why"), row("g", label="x"))
    info = collection.info()
    assert (info.rows, info.errors, info.labelled) == (5, 2, 4)
    assert list(info.labels.items()) == [("y", 2), ("x", 1), ("z", 1)]
    assert (info.name, info.version, info.spec) == ("flowers", collection.version, collection.spec)
    assert info.size_bytes == sum(
        file.stat().st_size for file in Path(collection.key).rglob("*") if file.is_file()
    )


def test_row_ids_survive_upserts_and_compaction(collection: Collection) -> None:
    write(collection, *(row(f"n{number}") for number in range(6)))
    write(collection, row("m"))
    before = collection.matrix()
    ids = dict(zip(before.ids.to_pylist(), before.row_ids.tolist(), strict=True))
    write(collection, row("n0", 9), row("n1", 9), row("new"))
    lance.dataset(collection.key).optimize.compact_files()
    after = collection.matrix()
    now = dict(zip(after.ids.to_pylist(), after.row_ids.tolist(), strict=True))
    new = now.pop("new")
    assert now == ids
    assert new not in ids.values()
    assert after.ids.to_pylist() != before.ids.to_pylist()


def test_a_handle_sees_what_another_store_commits(tmp_path: Path, collection: Collection) -> None:
    write(collection, row("a"))
    other = CollectionStore(tmp_path / "data").open("flowers")
    assert write(other, row("b")) == collection.version
    assert [found.id for found in collection.get(["b", "a"])] == ["b", "a"]


@pytest.mark.parametrize("include_errors", [True, False])
def test_a_parquet_export_holds_every_column_and_the_record(
    tmp_path: Path, collection: Collection, include_errors: bool
) -> None:
    write(collection, row("a", 1, "rose"), bad("b"))
    path = tmp_path / "out.parquet"
    path.write_text("an older export")
    rows = 2 if include_errors else 1
    assert collection.export_parquet(path, include_errors=include_errors) == rows
    table = pq.read_table(path)
    assert table.num_rows == rows
    assert table.schema.names[:3] == ["id", "embedding", "label"]
    assert read_record(table.schema.metadata, "x").spec == collection.spec
    embeddings = dict(zip(table.column("id").to_pylist(), table.column("embedding").to_pylist(), strict=True))
    assert embeddings["a"] == vector(1).tolist()
    assert embeddings.get("b") is None
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data", "out.parquet"]


def test_a_failed_export_leaves_what_was_there(tmp_path: Path, collection: Collection) -> None:
    write(collection, row("a"))
    path = tmp_path / "out.parquet"
    path.write_text("an older export")
    for file in Path(collection.key, "data").iterdir():
        file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(StorageError):
        collection.export_parquet(path)
    assert path.read_text() == "an older export"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data", "out.parquet"]
    with pytest.raises(InvalidArgument, match="no folder"):
        collection.export_parquet(tmp_path / "absent" / "out.parquet")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "free space"),
        (OSError("LanceError(IO): No space left on device (os error 28), /x/y.rs:1:2"), "free space"),
        (PermissionError(13, "Permission denied"), "right to read and write"),
        (OSError("Too many concurrent writers. Attempted 50 retries., /x/y.rs:1:2"), "run it again"),
    ],
)
def test_errors_of_the_store_say_what_to_do(error: OSError, words: str) -> None:
    with pytest.raises(StorageError, match=words) as refusal, storage_errors("flowers", "written"):
        raise error
    assert ".rs" not in refusal.value.message
    assert refusal.value.__cause__ is error
