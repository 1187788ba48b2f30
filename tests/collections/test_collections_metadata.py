"""Columns of the users' own, lists of labels, half floats, and spaces that are declared by hand."""

from __future__ import annotations

import importlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.rows import Label, Row
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.collections.spec import CollectionSpec, declared_space
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import DecodeModeMismatch, InvalidArgument, SpaceMismatch

NOON = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def row(name: str, label: Label = None, **metadata: Scalar) -> Row:
    return Row(name, np.ones(4, np.float32), label=label, metadata=metadata)


def write(collection: Collection, *rows: Row) -> int:
    return collection.upsert(rows, space_id="sp1-a", decode="exact")


def test_columns_appear_on_first_use_with_their_type_and_come_back(collection: Collection) -> None:
    write(collection, row("old"))
    full: dict[str, Scalar] = {"text": "é", "whole": 2**62, "number": 0.5, "truth": False, "moment": NOON}
    write(collection, row("a", **full), row("b", text="x", whole=None))
    a, b, old = collection.get(["a", "b", "old"])
    assert (a.metadata, b.metadata, old.metadata) == (full, {"text": "x"}, {})
    assert {name: kind for name, kind in collection.columns().items() if name not in COLUMNS} == {
        "text": "string", "whole": "int64", "number": "double", "truth": "bool", "moment": "timestamp[us, tz=UTC]",
    }  # fmt: skip
    assert collection.matrix("whole > 5 AND truth = false").ids.to_pylist() == ["a"]


def test_an_upsert_replaces_the_whole_row(collection: Collection) -> None:
    write(collection, row("a", one=1, two=2))
    write(collection, row("a", two=3))
    assert collection.get(["a"])[0].metadata == {"two": 3}


def test_a_column_of_nulls_alone_is_not_made(collection: Collection) -> None:
    write(collection, row("a", colour=None))
    assert "colour" not in collection.columns()


def test_whole_numbers_go_into_a_column_of_floats(collection: Collection) -> None:
    write(collection, row("a", score=1), row("b", score=0.5))
    write(collection, row("c", score=3))
    found = {name: values.metadata["score"] for name, values in collection.find(["a", "b", "c"]).items()}
    assert found == {"a": 1.0, "b": 0.5, "c": 3.0}
    assert {type(value) for value in found.values()} == {float}


@pytest.mark.parametrize("other", [1, 1.5, True, NOON])
def test_a_value_of_another_type_is_refused_naming_row_and_column(collection: Collection, other: Any) -> None:
    version = write(collection, row("a", colour="red"))
    with pytest.raises(InvalidArgument, match="row 'bad', column 'colour'"):
        write(collection, row("good", colour="blue"), row("bad", colour=other))
    assert collection.version == version


def test_types_that_disagree_within_one_call_are_refused(collection: Collection) -> None:
    with pytest.raises(InvalidArgument, match="row 'b', column 'colour'"):
        write(collection, row("a", colour="red"), row("b", colour=1))
    with pytest.raises(InvalidArgument, match="row 'b', column 'flag'"):
        write(collection, row("a", flag=1), row("b", flag=True))


@pytest.mark.parametrize("name", [*COLUMNS, "_rowid", "", "a b", "a-b", "1a", "é", "a" * 65, 'a"b'])
def test_names_that_no_column_can_have_are_refused(collection: Collection, name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"column"):
        write(collection, Row("a", np.ones(4, np.float32), metadata={name: "x"}))
    assert tuple(collection.columns()) == COLUMNS


@pytest.mark.parametrize(
    ("value", "words"),
    [(2**63, "64 bits"), (float("nan"), "finite"), (float("-inf"), "finite"), (datetime(2026, 1, 1), "time zone"),
     (b"bytes", "bytes can't be stored"), ([1], "list can't"), ("\udce9", "Unicode")],
)  # fmt: skip
def test_values_that_no_column_can_hold_are_refused(value: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"row 'a', column 'x'.*{words}"):
        row("a", x=value)


def test_writers_that_add_the_same_column_at_once_both_succeed(collection: Collection) -> None:
    start = threading.Barrier(4)

    def add(writer: int) -> None:
        start.wait()
        for turn in range(3):
            write(collection, row(f"{writer}-{turn}", **{f"c{turn}": writer, "shared": str(writer)}))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    expected = {f"{w}-{t}": {f"c{t}": w, "shared": str(w)} for w in range(4) for t in range(3)}
    assert {name: found.metadata for name, found in collection.find(list(expected)).items()} == expected


# Numbers that turn out to be floats -----------------------------------------------------------------------


def numbers(collection: Collection, name: str = "score") -> dict[str, Scalar]:
    found = (batch.to_pylist() for batch in collection.scan(["id", name]))
    return {entry["id"]: entry[name] for batch in found for entry in batch}


def test_a_column_of_whole_numbers_becomes_one_of_floats_when_a_float_comes(collection: Collection) -> None:
    write(collection, row("before"))
    write(collection, *(row(f"r{number:02}", score=number, other="x") for number in range(64)))
    collection.delete(["r03"])
    collection.relabel({"r04": "rose"})
    version = collection.version
    before = collection.matrix()
    write(collection, row("late", score=5.3, other="x"))
    assert collection.columns()["score"] == "double"
    wanted = {f"r{number:02}": float(number) for number in range(64) if number != 3}
    assert numbers(collection) == {"before": None, **wanted, "late": 5.3}
    after = collection.matrix("id != 'late'")
    order = np.argsort(before.ids.to_numpy(zero_copy_only=False))
    now = np.argsort(after.ids.to_numpy(zero_copy_only=False))
    assert np.array_equal(before.row_ids[order], after.row_ids[now])
    assert np.array_equal(before.embeddings[order], after.embeddings[now])
    assert collection.get(["r04"])[0].label == "rose"
    assert collection.columns(version)["score"] == "int64"
    assert list(collection.columns()) == list(collection.columns(version))
    collection.compact()
    write(collection, row("r05", score=7))
    assert numbers(collection)["r05"] == 7.0
    changed = collection.changes(version)
    assert {name for batch in changed.upserted(["id"]) for name in batch.column("id").to_pylist()} >= {
        "late",
        "r05",
    }


def test_a_column_of_an_empty_collection_widens_too(collection: Collection) -> None:
    write(collection, row("a", score=1))
    collection.delete(["a"])
    write(collection, row("b", score=0.5))
    assert numbers(collection) == {"b": 0.5}


def test_labels_in_lists_survive_the_widening(store: CollectionStore, spec: CollectionSpec) -> None:
    several = store.create("several", replace(spec, multi_label=True))
    write(several, row("a", ("x", "y"), score=1))
    write(several, row("b", ("z",), score=0.5))
    assert [found.label for found in several.get(["a", "b"])] == [("x", "y"), ("z",)]


def test_a_whole_number_that_no_float_is_equal_to_is_never_changed(collection: Collection) -> None:
    version = write(collection, row("fits", score=-(2**53)), row("big", score=2**53 + 1))
    with pytest.raises(InvalidArgument, match=r"row 'big' holds 9007199254740993.*another column"):
        write(collection, row("late", score=0.5))
    assert (collection.version, numbers(collection)["big"]) == (version, 2**53 + 1)
    write(collection, row("a", weight=0.5))
    with pytest.raises(InvalidArgument, match=r"row 'b', column 'weight'.*none is equal to 9007199254740993"):
        write(collection, row("b", weight=2**53 + 1))


def test_no_other_pair_of_types_changes_the_column(collection: Collection) -> None:
    version = write(collection, row("a", score=1))
    with pytest.raises(InvalidArgument, match=r"column 'score'.*run it again"):
        write(collection, row("b", score=0.5), row("c", score="much"))
    assert (collection.version, collection.columns()["score"]) == (version, "int64")


def test_a_relabelled_number_widens_its_column(collection: Collection) -> None:
    write(collection, row("a", score=1), row("b", score=2))
    assert collection.relabel({"a": 0.5}, "score") == 1
    assert numbers(collection) == {"a": 0.5, "b": 2.0}
    write(collection, row("c", weight=1))
    assert collection.relabel_where(1.5, "weight = 1", column="weight") == 1
    assert numbers(collection, "weight") == {"a": None, "b": None, "c": 1.5}


def test_writers_at_work_while_a_column_widens_lose_nothing(collection: Collection) -> None:
    write(collection, row("first", score=1))
    start = threading.Barrier(4)

    def add(writer: int) -> None:
        start.wait()
        for turn in range(4):
            whole = writer % 2 == 0 or turn == 0
            write(collection, row(f"{writer}-{turn}", score=turn if whole else turn + 0.5))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    wanted = {
        f"{writer}-{turn}": turn if writer % 2 == 0 or turn == 0 else turn + 0.5
        for writer in range(4)
        for turn in range(4)
    }
    assert numbers(collection) == {"first": 1.0, **wanted}


@pytest.mark.parametrize("module", ["writing", "partial"])
def test_a_table_made_for_the_old_type_is_made_again(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    place = importlib.import_module(f"trunkline_service.collections.{module}")
    write(collection, row("a", score=1), row("late", score=1))
    make, turns = place.rows_to_table, []

    def slowly(rows: Any, schema: Any, moment: Any) -> Any:
        table = make(rows, schema, moment)
        if not turns:
            turns.append(1)
            write(collection, row("other", score=0.5))
        return table

    monkeypatch.setattr(place, "rows_to_table", slowly)
    if module == "writing":
        write(collection, row("late", score=2))
    else:
        collection.refresh([row("late", score=2)], space_id="sp1-a", decode="exact")
    assert numbers(collection) == {"a": 1.0, "other": 0.5, "late": 2.0}


# Lists of labels ---------------------------------------------------------------------------------------


@pytest.fixture
def multi(store: CollectionStore, spec: CollectionSpec) -> Collection:
    return store.create("multi", replace(spec, multi_label=True))


def test_lists_of_labels_come_back_and_are_counted_one_by_one(multi: Collection) -> None:
    write(multi, row("a", ("rose", "red")), row("b", ()), row("c"), row("d", ("rose",)))
    assert [found.label for found in multi.get(["a", "b", "c", "d"])] == [
        ("rose", "red"),
        (),
        None,
        ("rose",),
    ]
    info = multi.info()
    assert (info.labelled, list(info.labels.items())) == (3, [("rose", 2), ("red", 1)])
    assert multi.matrix().labels.to_pylist() == [["rose", "red"], [], None, ["rose"]]
    assert multi.matrix("array_has(label, ?)", parameters=["rose"]).ids.to_pylist() == ["a", "d"]


def test_a_single_label_and_a_list_do_not_pass_for_each_other(
    multi: Collection, collection: Collection
) -> None:
    with pytest.raises(InvalidArgument, match=r"row 'a'.*lists of labels"):
        write(multi, row("a", "rose"))
    with pytest.raises(InvalidArgument, match=r"row 'a'.*one label a row"):
        write(collection, row("a", ("rose",)))


# Half floats -------------------------------------------------------------------------------------------


@pytest.fixture
def half(store: CollectionStore, spec: CollectionSpec) -> Collection:
    return store.create("half", replace(spec, dtype="float16"))


def test_half_floats_are_read_as_float32_rounded_once(half: Collection) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    rows = [Row(str(number), vector) for number, vector in enumerate(vectors)]
    write(half, *rows, Row("bad", None, status="error", error="why"))
    matrix = half.matrix()
    assert matrix.embeddings.dtype == np.float32
    rounded = vectors.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(matrix.embeddings, rounded)
    found = half.get(["2"])[0].embedding
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rounded[2])
    assert half.columns()["embedding"].startswith("fixed_size_list<item: halffloat>[4]")


def test_what_half_floats_can_not_hold_is_refused_naming_the_row(half: Collection) -> None:
    largest = np.array([65504, -65504, 1e-9, 0], np.float32)
    write(half, Row("fits", largest))
    for value in (65520.0, -1e30):
        with pytest.raises(InvalidArgument, match=r"row 'far'.*float16's 65504"):
            write(half, Row("near", largest), Row("far", np.array([0, value, 0, 0], np.float32)))
    assert half.matrix().ids.to_pylist() == ["fits"]


# Declared spaces ---------------------------------------------------------------------------------------


def test_a_declared_space_needs_no_model_and_takes_vectors_of_no_known_decode_mode(
    store: CollectionStore,
) -> None:
    spec = CollectionSpec(declared_space("clip"), 4, "", "", "unknown", declared=True)
    brought = store.create("brought", spec)
    assert store.open("brought").spec == spec
    brought.upsert([replace(row("a"), decode="unknown")], space_id="declared:clip", decode="unknown")
    with pytest.raises(DecodeModeMismatch, match=r"'unknown'.*'exact'"):
        brought.upsert([row("b")], space_id="declared:clip", decode=None)
    with pytest.raises(SpaceMismatch, match=r"declared:clip.*declared by hand.*sp1-a"):
        write(brought, row("b"))


def test_a_name_never_equals_a_computed_space_unless_it_is_one() -> None:
    assert declared_space("clip") == declared_space("declared:clip") == "declared:clip"
    assert declared_space("sp1-0123") == "sp1-0123"
    with pytest.raises(InvalidArgument, match="needs a name"):
        declared_space(" ")


@pytest.mark.parametrize(
    ("values", "words"),
    [({"decode": "unknown"}, "declared space"), ({"dtype": "int8"}, "float16"), ({"model": ""}, "model"),
     ({"declared": True, "space_id": ""}, "space_id")],
)  # fmt: skip
def test_specs_that_contradict_themselves_are_refused(
    spec: CollectionSpec, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        replace(spec, **values)
