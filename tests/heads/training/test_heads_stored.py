"""Training sets out of collections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.effort import MAX_DEPTH
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, InvalidArgument, NotEnoughData, StorageError
from trunkline_service.heads.training.stored import training_set, unlabelled
from trunkline_service.heads.training.training_set import TrainingSet

Fill = Callable[..., Collection]


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    return CollectionStore(tmp_path)


@pytest.fixture
def fill(store: CollectionStore) -> Fill:
    """Makes a collection of 3-dim rows; row i has the embedding [i, i, i] and the fields of ``rows[i]``."""

    def make(rows: list[dict[str, Any]], name: str = "photos", multi_label: bool = False) -> Collection:
        spec = CollectionSpec("sp1-a", 3, "tiny@1", "ar1-a", "fast", multi_label=multi_label)
        collection = store.create(name, spec)
        made = [
            Row(
                f"id{i}",
                np.full(3, i, np.float32),
                source=f"{i}.jpg",
                content_hash="h",
                decode="fast",
                **fields,
            )
            for i, fields in enumerate(rows)
        ]
        broken = Row(
            "broken",
            None,
            label=made[0].label,
            status="error",
            error="truncated_image: cut off",
            decode="fast",
        )
        collection.upsert([broken, *made], space_id="sp1-a", decode=None)
        return collection

    return make


def labelled(*labels: Any) -> list[dict[str, Any]]:
    return [{"label": label} for label in labels]


def test_single_labels(store: CollectionStore, fill: Fill) -> None:
    collection = fill(labelled("a", None, "b", "b", "a", " "))
    data = training_set(store, "photos")
    assert data.task == "single-label"
    assert data.labels == ("a", "b", "b", "a")
    assert data.ids == ("id0", "id2", "id3", "id4")
    assert data.sources == ("0.jpg", "2.jpg", "3.jpg", "4.jpg")
    assert data.embeddings[:, 0].tolist() == [0, 2, 3, 4]
    assert (data.space_id, data.model, data.decode, data.target) == ("sp1-a", "tiny@1", "fast", "label")
    assert (data.collection, data.collection_version) == ("photos", collection.version)
    assert (data.test, data.validation, data.groups, data.weights) == (None, None, None, None)
    assert data.notes == ("1 rows without a label were left out",)


def test_lists_of_labels(store: CollectionStore, fill: Fill) -> None:
    fill(labelled(("a", "b"), ("b",), (), ("a",), None), multi_label=True)
    data = training_set(store, "photos")
    assert data.task == "multi-label"
    assert data.labels == (("a", "b"), ("b",), (), ("a",))
    assert training_set(store, "photos", task="anomaly").labels[4] is None


def test_numbers_are_regressed_on(store: CollectionStore, fill: Fill) -> None:
    rows = [{"metadata": {"Price": float(i), "order": i % 3}} for i in range(6)]
    fill([*rows, {"metadata": {"order": 1}}, {}])
    data = training_set(store, "photos", target="Price")
    assert data.task == "regression"
    assert data.values().ravel().tolist() == [0, 1, 2, 3, 4, 5]
    both = training_set(store, "photos", target="Price, order")
    assert both.classes == ("Price", "order")
    assert both.values()[5].tolist() == [5, 2]
    classes = training_set(store, "photos", target="order", task="single-label")
    assert classes.classes == ("0", "1", "2")
    assert len(classes) == 7


def test_text_and_truth_are_classes(store: CollectionStore, fill: Fill) -> None:
    fill([{"metadata": {"city": "xy"[i % 2], "indoor": i % 3 == 0}} for i in range(6)])
    assert training_set(store, "photos", target="city").classes == ("x", "y")
    assert training_set(store, "photos", target="indoor").labels == ("true", "false", "false") * 2


def test_any_rows_show_what_is_normal(store: CollectionStore, fill: Fill) -> None:
    fill(labelled("good", None, "bad", None))
    data = training_set(store, "photos", task="anomaly")
    assert data.labels == ("good", None, "bad", None)


def test_groups_come_from_any_column(store: CollectionStore, fill: Fill) -> None:
    rows = [
        {"label": "ab"[i % 2], "metadata": {"patient": i // 2} if i else {}, "job": "j"} for i in range(6)
    ]
    fill(rows)
    assert training_set(store, "photos", group="patient").groups == (None, "0", "1", "1", "2", "2")
    assert training_set(store, "photos", group="job").groups == ("j",) * 6
    assert training_set(store, "photos", group="source").groups == tuple(f"{i}.jpg" for i in range(6))


def test_splits_are_honoured(store: CollectionStore, fill: Fill) -> None:
    splits = ["train", "TEST", "val", None, "testing", "Dev", "train", "other"]
    fill([{"label": "ab"[i // 2 % 2], "split": split} for i, split in enumerate(splits)])
    data = training_set(store, "photos")
    assert data.ids == ("id0", "id2", "id3", "id5", "id6", "id7")
    assert data.validation is not None
    assert data.validation.tolist() == [False, True, False, True, False, False]
    assert data.test is not None
    assert data.test.ids == ("id1", "id4")
    assert data.test.sources == ("1.jpg", "4.jpg")
    assert data.test.embeddings[:, 0].tolist() == [1, 4]
    other = training_set(store, "photos", test_split="Other", validation_split="none")
    assert other.test is not None
    assert other.test.ids == ("id7",)
    assert other.validation is None


def test_rows_of_the_test_split_have_groups_too(store: CollectionStore, fill: Fill) -> None:
    rows = [
        {"label": "ab"[i % 2], "split": "test" if i > 3 else "train", "metadata": {"patient": i // 2}}
        for i in range(6)
    ]
    fill(rows)
    data = training_set(store, "photos", group="patient")
    assert data.groups == ("0", "0", "1", "1")
    assert data.test is not None
    assert data.test.groups == ("2", "2")


def test_nothing_but_a_test_split(store: CollectionStore, fill: Fill) -> None:
    fill([{"label": "ab"[i % 2], "split": "test"} for i in range(4)])
    with pytest.raises(
        NotEnoughData, match="all 4 rows of collection 'photos' that have a target are of the test"
    ):
        training_set(store, "photos")


def test_a_condition_as_long_as_is_allowed_has_room_for_the_target(
    store: CollectionStore, fill: Fill
) -> None:
    fill(labelled("a", None, "b", "a", "b"))
    longest = "(" * MAX_DEPTH + "size IS NULL" + ")" * MAX_DEPTH
    assert training_set(store, "photos", where=longest).ids == ("id0", "id2", "id3", "id4")
    assert tuple(unlabelled(store, "photos", where=longest).ids) == ("id1",)


def test_a_version_and_a_condition(store: CollectionStore, fill: Fill) -> None:
    collection = fill(labelled("a", "b", "a", "b", "a", "b"))
    version = collection.version
    collection.relabel({"id0": "c", "id1": "c"})
    assert training_set(store, "photos").classes == ("a", "b", "c")
    old = training_set(store, f"photos@{version}")
    assert (old.classes, old.collection, old.collection_version) == (("a", "b"), "photos", version)
    some = training_set(store, "photos", where="label = 'a' OR label = 'b'")
    assert some.ids == ("id2", "id3", "id4", "id5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "prise"}, r"no column 'prise' to learn; did you mean 'price'"),
        ({"target": "embedding"}, "'embedding' is no column to learn"),
        ({"target": "source"}, "'source' says where a row comes from"),
        ({"target": "price,price"}, "names a column twice"),
        ({"target": "price,city"}, "is of type double, string, which can't be learned"),
        ({"target": "seen"}, "timestamp.*which can't be learned"),
        (
            {"target": "city", "task": "regression"},
            r"target city \(string\) .* can't be learned as regression; it can be single-label or anomaly",
        ),
        (
            {"target": "price", "task": "single-label"},
            "can't be learned as single-label; it can be regression",
        ),
        ({"task": "multi-label"}, "can't be learned as multi-label"),
        ({"task": "sorting"}, "task is 'sorting'"),
        ({"group": "patiens"}, r"no column 'patiens' to group by"),
        ({"group": "embedding"}, "'embedding' is no column to group by"),
        ({"where": "label = 'a') OR (true"}, "brackets and quotes don't match"),
        ({"where": "labl = 'a'"}, "labl"),
    ],
)
def test_what_cannot_be_learned(
    store: CollectionStore, fill: Fill, arguments: dict[str, Any], message: str
) -> None:
    from datetime import UTC, datetime

    own = {"price": 1.5, "city": "x", "seen": datetime(2026, 1, 1, tzinfo=UTC)}
    fill([{"label": "ab"[i % 2], "metadata": own} for i in range(4)])
    with pytest.raises(InvalidArgument, match=message):
        training_set(store, "photos", **arguments)


def test_a_collection_that_is_not_there(store: CollectionStore, fill: Fill) -> None:
    fill(labelled("a", "b"))
    with pytest.raises(CollectionNotFound, match="did you mean 'photos'"):
        training_set(store, "photo")


def test_no_labels_at_all(store: CollectionStore, fill: Fill) -> None:
    fill(labelled(None, None, None))
    with pytest.raises(NotEnoughData, match="gives 0 rows"):
        training_set(store, "photos")
    fill(labelled(None, None, None), name="many", multi_label=True)
    with pytest.raises(NotEnoughData, match="gives 0 rows"):
        training_set(store, "many")


def test_rows_that_lack_a_label(store: CollectionStore, fill: Fill) -> None:
    collection = fill(
        [{"label": "a" if i % 2 else None, "metadata": {"price": 1.0} if i < 3 else {}} for i in range(5)]
    )
    found = unlabelled(store, "photos")
    assert found.ids == ("id0", "id2", "id4")
    assert found.sources == ("0.jpg", "2.jpg", "4.jpg")
    np.testing.assert_array_equal(found.embeddings[:, 0], [0, 2, 4])
    assert (found.space_id, found.collection, found.collection_version) == (
        "sp1-a",
        "photos",
        collection.version,
    )
    assert unlabelled(store, "photos", "price").ids == ("id3", "id4")
    assert unlabelled(store, "photos", where="id = 'id2' OR id = 'id1'").ids == ("id2",)
    with pytest.raises(InvalidArgument, match="no column 'lable' to learn; did you mean 'label'"):
        unlabelled(store, "photos", "lable")


@pytest.fixture
def mapped(tmp_path: Path) -> dict[str, Any]:
    """Arguments by which no embedding is read into memory."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return {"memory_bytes": 1, "folder": folder}


def equal_sets(one: TrainingSet, other: TrainingSet) -> None:
    np.testing.assert_array_equal(one.embeddings, other.embeddings)
    for name in ("ids", "sources", "groups", "labels"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None), name
        assert list(() if first is None else first) == list(() if second is None else second), name
    assert (one.classes, one.notes, one.training_hash()) == (
        other.classes,
        other.notes,
        other.training_hash(),
    )
    np.testing.assert_array_equal(one.group_codes(), other.group_codes())
    assert (one.validation is None) == (other.validation is None)
    if one.validation is not None:
        np.testing.assert_array_equal(one.validation, other.validation)
    assert (one.test is None) == (other.test is None)
    if one.test is not None and other.test is not None:
        equal_sets(one.test, other.test)


def test_embeddings_beyond_memory_make_the_same_set(
    store: CollectionStore, fill: Fill, mapped: dict[str, Any]
) -> None:
    splits = ["train", "test", "val", None, "test", "dev", "train", "test", "test", "train"]
    labels = ["a", "b", "b", "a", "a", "a", "once", "never seen", " ", ""]
    fill(
        [
            {"label": label, "split": split, "metadata": {"patient": i // 2}}
            for i, (label, split) in enumerate(zip(labels, splits, strict=True))
        ]
        + labelled("A", "b", None, "A")
    )
    plain = training_set(store, "photos", group="patient")
    found = training_set(store, "photos", group="patient", **mapped)
    assert isinstance(found.embeddings.base, np.memmap)
    assert not found.embeddings.flags.writeable
    assert not isinstance(plain.embeddings.base, np.memmap)
    assert list(mapped["folder"].iterdir()) == []
    equal_sets(found, plain)
    assert found.test is not None
    assert isinstance(found.test.embeddings.base, np.memmap)
    assert any("1 rows without a label" in note for note in found.notes)
    assert any("'once'" in note for note in found.notes)
    assert any("'A' / 'a'" in note for note in found.notes)
    assert any("1 labels of 1 classes that were not learned" in note for note in found.notes)


def test_every_task_is_the_same_beyond_memory(
    store: CollectionStore, fill: Fill, mapped: dict[str, Any]
) -> None:
    fill([{"metadata": {"price": float(i)}, "split": "test" if i == 3 else None} for i in range(6)] + [{}])
    for arguments in ({"target": "price"}, {"task": "anomaly"}):
        plain = training_set(store, "photos", **arguments)
        equal_sets(training_set(store, "photos", **arguments, **mapped), plain)
    fill(labelled(("a", "b"), ("b",), (), ("a",), None, ("c",)), name="many", multi_label=True)
    equal_sets(training_set(store, "many", **mapped), training_set(store, "many"))


def test_a_test_split_of_which_nothing_can_be_judged(
    store: CollectionStore, fill: Fill, mapped: dict[str, Any]
) -> None:
    fill([*labelled("a", "a", "b", "b"), *({"label": "c", "split": "test"} for _ in range(3))])
    for arguments in ({}, mapped):
        data = training_set(store, "photos", **arguments)
        assert data.test is None
        assert "none of the 3 rows of the test split can be judged" in data.notes


def test_no_room_for_embeddings_beyond_memory(
    store: CollectionStore, fill: Fill, mapped: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    fill(labelled("a", "a", "b", "b"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(9, 9, 0))  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match="has no room for 4 embeddings"):
        training_set(store, "photos", **mapped)
    assert len(training_set(store, "photos")) == 4


def test_unlabelled_rows_beyond_memory(store: CollectionStore, fill: Fill, mapped: dict[str, Any]) -> None:
    fill(labelled("a", None, "a", None))
    found = unlabelled(store, "photos", **mapped)
    assert list(found.ids) == ["id1", "id3"]
    np.testing.assert_array_equal(found.embeddings[:, 0], [1, 3])
    assert isinstance(found.embeddings.base, np.memmap)
    assert len(unlabelled(store, "photos", where="label = 'a'", **mapped).ids) == 0


def test_equal_labels_are_one_object(store: CollectionStore, fill: Fill) -> None:
    fill(labelled("some label", "another", "some label", "another"))
    labels = training_set(store, "photos").labels
    assert labels[0] is labels[2]
    fill(labelled(("x", "y"), ("x",), ("x", "y"), ("y",), ()), name="many", multi_label=True)
    sets = training_set(store, "many").labels
    assert sets[0] is sets[2]


def test_groups_of_a_column_of_lists(store: CollectionStore, fill: Fill) -> None:
    fill(labelled(("x", "y"), ("x",), ("x", "y"), ()), name="many", multi_label=True)
    groups = training_set(store, "many", group="label").groups
    assert groups == ("['x', 'y']", "['x']", "['x', 'y']", "[]")


@pytest.mark.parametrize(
    ("rows", "said"), [(slice(1, None), "and 3 have one"), ([0, 0, 1, 2, 3], "and more have one")]
)
def test_embeddings_that_are_not_as_many_as_rows(
    store: CollectionStore, fill: Fill, monkeypatch: pytest.MonkeyPatch, rows: Any, said: str
) -> None:
    from trunkline_service.heads.training import reading

    valid_vectors = reading.valid_vectors
    monkeypatch.setattr(reading, "valid_vectors", lambda column: valid_vectors(column)[rows])
    fill(labelled("a", "a", "b", "b"))
    with pytest.raises(StorageError, match=f"4 rows say that they have an embedding, {said}"):
        training_set(store, "photos")
