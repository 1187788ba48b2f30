"""Datasets of other schema versions: older ones work, newer ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from trunkline_service.collections.rows import Row
from trunkline_service.collections.schema import RECORD_KEY, arrow_schema, read_record
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import StorageError

FIRST = {
    "schema_version": 1, "uid": "u", "created_at": "2026-01-01T00:00:00+00:00", "space_id": "sp1-a", "dim": 4,
    "model": "tiny@1", "artifact_id": "ar1-a", "decode": "exact", "pretrained": False, "metric": "cosine",
}  # fmt: skip


@pytest.fixture
def first(tmp_path: Path, store: CollectionStore, spec: CollectionSpec) -> CollectionStore:
    """A store with a collection as schema version 1 wrote it: fewer facts, and no layout of the vectors."""
    schema = arrow_schema(spec)
    plain = pa.list_(pa.float32(), 4)
    schema = schema.set(1, pa.field("embedding", plain)).with_metadata(
        {RECORD_KEY: json.dumps(FIRST).encode()}
    )
    row = {
        "id": "old", "embedding": [1.0, 2.0, 3.0, 4.0], "label": "rose", "source": "old.jpg", "content_hash": "h",
        "decode": "exact", "status": "ok", "embedded_at": 0,
    }  # fmt: skip
    folder = tmp_path / "data" / "collections"
    folder.mkdir(parents=True)
    lance.write_dataset(
        pa.Table.from_pylist([row], schema=schema), folder / "old.lance", enable_stable_row_ids=True
    )
    return store


def test_version_1_is_read_and_what_it_lacks_has_its_default(first: CollectionStore) -> None:
    old = first.open("old")
    assert old.spec == CollectionSpec(
        "sp1-a", 4, "tiny@1", "ar1-a", "exact", False, "cosine", "float32", False, False
    )
    assert old.revision == ("u", 1)
    (row,) = old.get(["old"])
    assert (row.label, row.metadata, row.source) == ("rose", {}, "old.jpg")
    np.testing.assert_array_equal(old.matrix().embeddings, [[1, 2, 3, 4]])


def test_version_1_is_written_with_all_that_is_new(first: CollectionStore) -> None:
    old = first.open("old")
    rows = [
        Row("new", np.full(4, 7, np.float32), metadata={"colour": "red"}),
        Row("old", np.ones(4, np.float32)),
    ]
    old.upsert(rows, space_id="sp1-a", decode="exact")
    assert old.relabel({"old": "lily"}) == 1
    assert old.get(["new"])[0].metadata == {"colour": "red"}
    assert old.get(["old"])[0].label == "lily"
    assert old.changes(1).version == old.version
    assert sorted(old.matrix().ids.to_pylist()) == ["new", "old"]


def test_a_record_is_read_back_as_it_was_written(store: CollectionStore, spec: CollectionSpec) -> None:
    record = read_record({RECORD_KEY: json.dumps(FIRST).encode()}, "x")
    assert read_record({RECORD_KEY: record.to_json().encode()}, "x") == record
    assert json.loads(record.to_json())["schema_version"] == 2


def test_a_newer_record_is_refused_with_the_remedy() -> None:
    with pytest.raises(StorageError, match=r"version 3.*up to 2.*upgrade trunkline"):
        read_record({RECORD_KEY: json.dumps(FIRST | {"schema_version": 3}).encode()}, "x")


@pytest.mark.parametrize("missing", ["uid", "space_id", "metric", "dim"])
def test_a_record_that_lacks_a_fact_is_refused(missing: str) -> None:
    facts = {name: value for name, value in FIRST.items() if name != missing}
    with pytest.raises(StorageError, match=f"incomplete.*{missing}"):
        read_record({RECORD_KEY: json.dumps(facts).encode()}, "x")
