"""Labels and the users' columns set by id and by condition; rows deleted by condition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lance
import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument


def row(name: str, label: Any = None, split: str | None = None, **metadata: Any) -> Row:
    vector = np.random.default_rng(ord(name[0])).standard_normal(4, np.float32)
    return Row(name, vector, label=label, split=split, source=f"{name}.jpg", metadata=metadata)


def labels_of(collection: Collection) -> dict[str, Any]:
    table = {}
    for batch in collection.scan(["id", "label"]):
        table |= dict(zip(batch.column("id").to_pylist(), batch.column("label").to_pylist(), strict=True))
    return table


@pytest.fixture
def filled(collection: Collection) -> Collection:
    rows = [row("a", "rose", "train", n=1), row("b", "lily", "test", n=2), row("c", None, None, n=3)]
    collection.upsert([*rows, Row("e", None, status="error", error="why")], space_id="sp1-a", decode="exact")
    return collection


def test_labels_are_set_by_id_in_one_commit_and_nothing_else_changes(filled: Collection) -> None:
    before, version = filled.get(["a", "b", "c"]), filled.version
    assert filled.relabel({"a": "it's", "c": None, "b": "rose", "absent": "x"}) == 3
    assert filled.version == version + 1
    assert labels_of(filled) == {"a": "it's", "b": "rose", "c": None, "e": None}
    for old, new in zip(before, filled.get(["a", "b", "c"]), strict=True):
        assert old.embedding is not None
        assert new.embedding is not None
        np.testing.assert_array_equal(old.embedding, new.embedding)
        same = {"embedding": None, "label": None}
        assert vars(old) | same == vars(new) | same
    assert filled.relabel({}) == 0


@pytest.mark.parametrize("there", [[], ["c"], ["b", "e"]])
def test_of_many_ids_few_may_be_there_and_they_are_looked_for_in_one_pass(
    filled: Collection, there: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[object] = []
    scanner = lance.LanceDataset.scanner

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        scans.append(options)
        return scanner(self, *arguments, **options)

    monkeypatch.setattr(lance.LanceDataset, "scanner", counted)
    ids = [*(f"absent{at}" for at in range(10_000)), *there]
    version = filled.version
    assert filled.relabel(dict.fromkeys(ids, "x")) == len(there)
    assert filled.version == version + bool(there)
    assert filled.delete(ids) == len(there)
    assert filled.version == version + 2 * bool(there)
    assert len(scans) == 2
    assert labels_of(filled).keys() == {"a", "b", "c", "e"} - set(there)


def test_any_column_of_people_can_be_set(filled: Collection) -> None:
    assert filled.relabel({"a": "val", "b": None}, column="split") == 2
    assert filled.relabel({"a": 7, "b": None}, column="n") == 2
    found = filled.get(["a", "b", "c"])
    assert [entry.split for entry in found] == ["val", None, None]
    assert [entry.metadata.get("n") for entry in found] == [7, None, 3]


@pytest.mark.parametrize("column", ["id", "embedding", "status", "error", "decode", "source", "embedded_at"])
def test_what_trunkline_keeps_can_not_be_set(filled: Collection, column: str) -> None:
    for attempt in (
        lambda: filled.relabel({"a": "x"}, column=column),
        lambda: filled.relabel_where("x", "id = 'a'", column=column),
    ):
        with pytest.raises(InvalidArgument, match="kept by Trunkline"):
            attempt()


@pytest.mark.parametrize(
    ("value", "column", "words"),
    [("x", "colour", "no column 'colour'"), ("x", "n", "'x'.*int64"), (True, "n", "True"), (1, "label", "1"),
     (1, "split", "1"), (("x",), "label", "one label a row"), (("x",), "n", "tuple")],
)  # fmt: skip
def test_values_that_a_column_can_not_hold_are_refused(
    filled: Collection, value: Any, column: str, words: str
) -> None:
    version = filled.version
    with pytest.raises(InvalidArgument, match=words):
        filled.relabel({"b": None, "a": value}, column=column)
    with pytest.raises(InvalidArgument, match=words):
        filled.relabel_where(value, "id = 'a'", column=column)
    assert filled.version == version


def test_labels_are_set_by_condition(filled: Collection) -> None:
    assert filled.relabel_where("it's", "label = ? OR n = ?", ["lily", 3]) == 2
    assert labels_of(filled) == {"a": "rose", "b": "it's", "c": "it's", "e": None}
    assert filled.relabel_where(None, "label IS NOT NULL") == 3
    assert set(labels_of(filled).values()) == {None}
    assert filled.relabel_where(-5, "n > 1", column="n") == 2
    assert [entry.metadata["n"] for entry in filled.get(["a", "b", "c"])] == [1, -5, -5]
    assert filled.relabel_where("x", "n > ?", [99]) == 0


def test_lists_of_labels_are_set_both_ways(store: CollectionStore, spec: CollectionSpec) -> None:
    multi = store.create("multi", replace(spec, multi_label=True))
    multi.upsert([row("a", ("rose",)), row("b"), row("c", ("x",))], space_id="sp1-a", decode="exact")
    assert multi.relabel({"a": ("it's", "red"), "c": None}) == 2
    assert multi.relabel_where(("lily", "a]b"), "id = 'b'") == 1
    assert [entry.label for entry in multi.get(["a", "b", "c"])] == [("it's", "red"), ("lily", "a]b"), None]
    assert multi.relabel_where((), "id IN ('a', 'b')") == 2
    assert multi.relabel_where(None, "id = 'b'") == 1
    assert [entry.label for entry in multi.get(["a", "b"])] == [(), None]
    with pytest.raises(InvalidArgument, match="lists of labels"):
        multi.relabel({"a": "rose"})


@pytest.mark.parametrize("where", ["label = ", "colour = 'x'", "1) OR (1=1", "", "true; drop"])
def test_a_condition_that_can_not_be_used_changes_nothing(filled: Collection, where: str) -> None:
    version = filled.version
    for attempt in (lambda: filled.relabel_where("x", where), lambda: filled.delete_where(where)):
        with pytest.raises(InvalidArgument):
            attempt()
    assert filled.version == version


def test_rows_are_deleted_by_condition(filled: Collection) -> None:
    assert filled.delete_where("label = ? OR status = ?", ["rose", "error"]) == 2
    assert sorted(labels_of(filled)) == ["b", "c"]
    assert filled.delete_where("n > ?", [99]) == 0
    assert filled.delete_where("true") == 2
    assert labels_of(filled) == {}
