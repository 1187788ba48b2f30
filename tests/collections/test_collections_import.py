"""Other people's Parquet files: what is taken from them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.exchange.importing import import_parquet
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import DecodeModeMismatch, InvalidArgument, SpaceMismatch

NOON = datetime(2025, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def vector(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(4, np.float32)


def row(name: str, seed: int = 0, **values: Any) -> Row:
    return Row(name, **{"embedding": vector(seed), **values})


def write(collection: Collection, *rows: Row) -> int:
    return collection.upsert(rows, space_id=collection.spec.space_id, decode=None, allow_mixed_decode=True)


def facts(collection: Collection) -> dict[str, dict[str, Any]]:
    """Every column of every row, comparable."""
    found = {}
    for batch in collection.scan():
        for values in batch.to_pylist():
            found[values["id"]] = {name: value for name, value in values.items() if value is not None}
    return found


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes columns to a Parquet file: ``save(id=[...], embedding=[...])``."""

    def written(**columns: Any) -> Path:
        path = tmp_path / "theirs.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=2)
        return path

    return written


VECTORS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


@pytest.mark.parametrize("floats", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("form", ["list", "large_list", "fixed"])
def test_vectors_of_any_form_are_read(
    store: CollectionStore, save: Callable[..., Path], floats: Any, form: str
) -> None:
    kind = {"list": pa.list_(floats), "large_list": pa.large_list(floats), "fixed": pa.list_(floats, 2)}[form]
    half = (
        np.array([*VECTORS, [np.nan, 1]], np.float16)
        if floats == pa.float16()
        else [*VECTORS, [float("nan"), 1]]
    )
    values = [None if position == 1 else list(entry) for position, entry in enumerate(half)]
    path = save(id=["a", "b", "c", "d"], embedding=pa.array(values, kind))
    done = import_parquet(store, path, "two", space_id="mine", batch_rows=3)
    found = facts(store.open("two"))
    assert (done.rows, done.errors) == (2, 2)
    assert [found[name].get("embedding") for name in "abcd"] == [[1, 2], None, [5, 6], None]
    assert found["b"]["error"].startswith("no_embedding: ")
    assert found["d"]["error"].startswith("non_finite_embedding: ")
    spec = store.open("two").spec
    assert (spec.dim, spec.space_id, spec.declared, spec.decode, spec.model) == (
        2,
        "declared:mine",
        True,
        "unknown",
        "",
    )


def test_known_columns_are_taken_and_others_are_the_users(
    store: CollectionStore, save: Callable[..., Path]
) -> None:
    path = save(
        id=pa.array([1, 2, 3]),
        embedding=VECTORS,
        label=pa.array(["rose", None, "lily"]).dictionary_encode(),
        split=["train", "test", None],
        source=pa.array(["a.jpg", None, "c.jpg"], pa.large_utf8()),
        size=pa.array([5.0, None, 7.0]),
        mtime=pa.array([1, 2, None]),
        decode=["exact", "exact", "exact"],
        colour=pa.array(["red", None, "blue"]).dictionary_encode(),
        small=pa.array([1, None, 3], pa.int8()),
        ratio=pa.array([0.5, None, 1.5], pa.float32()),
        taken=pa.array([NOON, None, NOON], pa.timestamp("ns", tz="Europe/Berlin")),
        nothing=pa.nulls(3),
    )
    import_parquet(store, path, "two", space_id="mine")
    one, two, three = store.open("two").get(["1", "2", "3"])
    assert (one.label, two.label, three.label) == ("rose", None, "lily")
    assert (one.split, three.split, two.source, three.source) == ("train", None, "", "c.jpg")
    assert (one.size, two.size, one.mtime, three.mtime) == (5, None, 1.0, None)
    assert {one.decode, two.decode, three.decode} == {"unknown"}
    assert one.metadata == {"colour": "red", "small": 1, "ratio": 0.5, "taken": NOON}
    assert two.metadata == {}


def test_lists_of_labels_make_a_multi_label_collection(
    store: CollectionStore, save: Callable[..., Path]
) -> None:
    path = save(id=["a", "b", "c"], embedding=VECTORS, label=[["rose", "red"], [], None])
    import_parquet(store, path, "two", space_id="mine")
    assert store.open("two").spec.multi_label
    assert [found.label for found in store.open("two").get(["a", "b", "c"])] == [("rose", "red"), (), None]


def test_of_one_id_twice_the_last_row_wins_across_batches(
    store: CollectionStore, save: Callable[..., Path]
) -> None:
    path = save(id=["a", "b", "a", "b", "a"], embedding=[[float(n), 0.0] for n in range(5)])
    import_parquet(store, path, "two", space_id="mine", batch_rows=2)
    assert {name: values["embedding"][0] for name, values in facts(store.open("two")).items()} == {
        "a": 4,
        "b": 3,
    }


def test_a_spec_says_what_the_file_does_not(store: CollectionStore, save: Callable[..., Path]) -> None:
    spec = CollectionSpec(space_id="sp1-a", dim=2, model="tiny@1", artifact_id="ar1-a", decode="exact")
    path = save(id=["a", "b", "c"], embedding=VECTORS, decode=["exact", None, "exact"])
    import_parquet(store, path, "two", spec=spec)
    assert store.open("two").spec == spec
    assert {values["decode"] for values in facts(store.open("two")).values()} == {"exact"}
    with pytest.raises(SpaceMismatch, match=r"sp1-a.*declared:other"):
        import_parquet(store, path, "three", spec=spec, space_id="other")


def test_vectors_do_not_enter_another_space_mode_or_dimension(
    tmp_path: Path, store: CollectionStore, collection: Collection, save: Callable[..., Path]
) -> None:
    version = write(collection, row("x"))
    path = save(id=["a"], embedding=[[1.0, 2.0, 3.0, 4.0]])
    with pytest.raises(SpaceMismatch, match=r"sp1-a.*declared:mine"):
        import_parquet(store, path, "flowers", space_id="mine")
    with pytest.raises(DecodeModeMismatch, match=r"'exact'.*'unknown'"):
        import_parquet(store, path, "flowers", space_id="sp1-a")
    assert collection.version == version
    collection.export_parquet(tmp_path / "ours.parquet")
    with pytest.raises(SpaceMismatch, match=r"sp1-a.*declared:mine"):
        import_parquet(store, tmp_path / "ours.parquet", "two", space_id="mine")
    done = import_parquet(store, path, "two", space_id="sp1-a")
    assert done.created
    assert store.open("two").spec.declared
    with pytest.raises(InvalidArgument, match="3 floats"):
        import_parquet(store, save(id=["a"], embedding=[[1.0, 2.0, 3.0]]), "two", space_id="sp1-a")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": ["a", None, "c"], "embedding": VECTORS}, "row 2 .counted from 1. has no id"),
        ({"id": ["a", "b", ""], "embedding": VECTORS}, "row 3"),
        ({"name": ["a", "b", "c"], "embedding": VECTORS}, "no column 'id'.*name, embedding"),
        ({"id": ["a", "b", "c"]}, "no column 'embedding'"),
        ({"id": ["a", "b", "c"], "embedding": [1.0, 2.0, 3.0]}, "holds double"),
        ({"id": ["a", "b", "c"], "embedding": [[1], [2], [3]]}, "lists of floats"),
        ({"id": [1.5, 2.5, 3.5], "embedding": VECTORS}, "column 'id' holds double"),
        ({"id": ["a", "b", "c"], "embedding": VECTORS, "label": [0.5, 1.5, 2.5]}, "column 'label' holds double"),
        ({"id": ["a", "b", "c"], "embedding": VECTORS, "tags": [["x"], ["y"], []]}, "column 'tags'"),
        ({"id": ["a", "b", "c"], "embedding": VECTORS, "a b": [1, 2, 3]}, "'a b' can't name a column"),
        ({"id": ["a", "b", "c"], "embedding": VECTORS, "size": [0.5, 1.0, 2.0]}, "column 'size'"),
        ({"id": ["a", "b", "c"], "embedding": VECTORS, "day": [datetime(2026, 1, 1)] * 3}, "column 'day'"),
        ({"id": ["a", "b", "c"], "embedding": VECTORS, "score": [float("nan"), 1.0, 2.0]}, "row 'a', column 'score'"),
        ({"id": ["a", "b", "c"], "embedding": [None, None, None]}, "column 'embedding' holds null"),
        ({"id": pa.array([], pa.utf8()), "embedding": pa.array([], pa.list_(pa.float32()))}, "no vector"),
    ],
)  # fmt: skip
def test_files_that_can_not_be_taken_are_refused_and_make_nothing(
    store: CollectionStore, save: Callable[..., Path], columns: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        import_parquet(store, save(**columns), "two", space_id="mine")
    assert store.names() == []


def test_what_is_no_parquet_and_what_names_no_space_is_refused(
    tmp_path: Path, store: CollectionStore, save: Callable[..., Path]
) -> None:
    (tmp_path / "text.parquet").write_text("not Parquet at all")
    for path in (tmp_path / "text.parquet", tmp_path / "absent.parquet"):
        with pytest.raises(InvalidArgument, match=f"{path.name} can't be read as Parquet"):
            import_parquet(store, path, "two", space_id="mine")
    with pytest.raises(InvalidArgument, match=r"declare it \(--space NAME\)"):
        import_parquet(store, save(id=["a"], embedding=[[1.0]]), "two")
    assert store.names() == []
