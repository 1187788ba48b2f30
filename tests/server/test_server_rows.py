"""Rows and their messages."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from trunkline._wire.rows import label_of
from trunkline_protos.v1 import collections_pb2, common_pb2, search_pb2
from trunkline_service.batching.request import Timings
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument, RowNotFound
from trunkline_service.index.outcome import Hit, Searched, SearchOutcome
from trunkline_service.server import scanning
from trunkline_service.server.converters import matrix_from, matrix_to
from trunkline_service.server.row_converters import (
    _wire_bytes,
    batch_to,
    new_value_from,
    pieces,
    row_from,
    rows_from,
    value_from,
    value_to,
)
from trunkline_service.server.search_converters import found_to
from trunkline_service.workspace import Found

FLOAT32 = common_pb2.FLOAT_TYPE_FLOAT32
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
)


@given(scalars)
def test_values_come_back_as_they_went(value):
    message = collections_pb2.Value.FromString(value_to(value).SerializeToString())
    back = value_from(message)
    assert (type(back), back) == (type(value), value)


def test_a_time_that_no_calendar_has_is_the_callers_fault():
    message = collections_pb2.Value(time=timestamp_pb2.Timestamp(seconds=2**50))
    with pytest.raises(InvalidArgument, match="no time"):
        value_from(message)


def test_an_empty_list_of_labels_is_not_null():
    assert new_value_from(collections_pb2.NewValue(labels=common_pb2.Labels())) == ()
    assert new_value_from(collections_pb2.NewValue()) is None


def upsert(*rows, vectors=None, decode="exact"):
    embeddings = None if vectors is None else matrix_to(np.array(vectors, np.float32), FLOAT32)
    return collections_pb2.UpsertRequest(rows=rows, embeddings=embeddings, decode=decode)


def test_rows_of_both_statuses():
    ok = collections_pb2.Row(id="a", label="x", size=0, mtime=1.5)
    bad = collections_pb2.Row(id="b", status="error", error="bad", decode="fast")
    first, second = rows_from(upsert(ok, bad, vectors=[[1, 2], [np.nan, np.nan]]), "unknown")
    np.testing.assert_array_equal(first.embedding, [1, 2])
    assert (first.label, first.size, first.mtime, first.etag, first.decode) == ("x", 0, 1.5, None, "exact")
    assert (second.embedding, second.status, second.decode) == (None, "error", "fast")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (upsert(collections_pb2.Row(id="a"), vectors=[[1.0], [2.0]]), "1 rows came with 2 embeddings"),
        (upsert(collections_pb2.Row(id="a"), vectors=[[1.0]], decode="odd"), "'a': decode is 'odd'"),
        (upsert(collections_pb2.Row(id="a"), vectors=[[np.nan]]), "'a'.*NaN"),
        (upsert(collections_pb2.Row(id="a")), "'a'"),
        (upsert(collections_pb2.Row(id="a", status="odd"), vectors=[[1.0]]), "status is 'odd'"),
        (
            upsert(collections_pb2.Row(id="a", label="x", labels=common_pb2.Labels()), vectors=[[1.0]]),
            "both a label and labels",
        ),
    ],
)
def test_rows_that_can_not_be_are_refused(request_, words):
    with pytest.raises(InvalidArgument, match=words):
        rows_from(request_, "exact")


@pytest.mark.parametrize(
    ("row", "call", "expected"), [("", "", "fast"), ("", "exact", "exact"), ("unknown", "exact", "unknown")]
)
def test_a_row_that_says_no_decode_mode_is_of_the_calls_or_the_collections(row, call, expected):
    (found,) = rows_from(
        upsert(collections_pb2.Row(id="a", decode=row), vectors=[[1.0]], decode=call), "fast"
    )
    assert found.decode == expected


def test_an_item_of_an_add_says_what_it_says_and_no_more():
    image = common_pb2.Image(encoded=b"image")
    metadata = {"n": collections_pb2.Value(integer=1), "a": collections_pb2.Value()}
    row = row_from(collections_pb2.AddItem(id="a", image=image, label="", split="", metadata=metadata))
    assert (row.id, row.label, row.split, dict(row.metadata)) == ("a", "", "", {"n": 1, "a": None})
    assert list(row.metadata) == ["a", "n"]
    row = row_from(collections_pb2.AddItem(image=image, source="here"))
    assert (row.id, row.label, row.split, row.metadata, row.source) == ("", None, None, {}, "here")
    assert row_from(collections_pb2.AddItem(labels=common_pb2.Labels())).label == ()
    assert row_from(collections_pb2.AddItem(labels=common_pb2.Labels(labels=["x", "y"]))).label == ("x", "y")
    with pytest.raises(InvalidArgument, match="'a' has both a label and labels"):
        row_from(collections_pb2.AddItem(id="a", label="x", labels=common_pb2.Labels()))


@pytest.mark.parametrize("label", [None, "", "x", (), ("x",), ("x", "y")])
def test_a_hit_says_its_label_as_the_collection_holds_it(label):
    outcome = SearchOutcome("s", 7, "cosine", [[Hit("a", 0.5, label, "a.jpg")]], Searched("flat", True, 7))
    reply = found_to(Found(outcome, {}, "s", Timings()))
    (hit,) = search_pb2.SearchResponse.FromString(reply.SerializeToString()).results[0].hits
    assert hit.HasField("label") == isinstance(label, str)
    assert hit.HasField("labels") == isinstance(label, tuple)
    assert label_of(hit) == label
    assert (hit.id, hit.score, hit.source) == ("a", 0.5, "a.jpg")


@given(
    texts=st.lists(st.text("ab", max_size=60), min_size=1, max_size=40),
    most=st.integers(1, 3000),
    dim=st.integers(1, 4),
)
def test_pieces_are_the_batch_and_each_is_within_the_bound(texts, most, dim):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(len(texts) * dim, np.float32)), dim)
    batch = pa.record_batch({"id": texts, "embedding": vectors, "note": texts})
    parts = list(pieces(batch, most))
    assert pa.Table.from_batches(parts).to_pylist() == batch.to_pylist()
    for part in parts:
        message = batch_to(part, "", "", 1, FLOAT32)
        # The names of space and collection, and the version, are not rows.
        assert message.ByteSize() <= _wire_bytes(part) + 32
        assert _wire_bytes(part) <= most or len(part) == 1


@pytest.fixture
def collection(tmp_path):
    spec = CollectionSpec("declared:s", 2, "", "", "unknown", multi_label=True, declared=True)
    made = CollectionStore(tmp_path).create("c", spec)
    rows = [
        Row("a", np.array([1, 2], np.float32), ("x", "y"), decode="unknown", metadata={"n": 1, "t": None}),
        Row("b", None, (), decode="unknown", status="error", error="bad"),
        Row("d", np.array([5, 6], np.float32), None, "train", decode="unknown", metadata={"s": "é"}),
    ]
    made.upsert(rows, space_id="declared:s", decode="unknown")
    return made


@pytest.fixture
def resolved(collection, tmp_path):
    return CollectionStore(tmp_path).resolve("c")


def scan(resolved, limit=2**20, **asked):
    return list(scanning.scan(resolved, collections_pb2.ScanRequest(**asked), limit))


def test_a_scan_brings_every_column(resolved):
    (batch,) = scan(resolved, with_embeddings=True)
    assert (batch.collection, batch.collection_version, batch.space_id) == (
        "c",
        resolved.collection.version,
        "declared:s",
    )
    rows = {row.id: row for row in batch.rows}
    assert list(rows["a"].labels.labels) == ["x", "y"]
    assert rows["b"].HasField("labels")
    assert not rows["d"].HasField("labels")
    assert not rows["a"].HasField("label")
    assert rows["d"].split == "train"
    assert {name: value_from(value) for name, value in rows["a"].metadata.items()} == {"n": 1}
    assert rows["b"].embedded_at.seconds > 0
    vectors = dict(zip(rows, matrix_from(batch.embeddings), strict=True))
    np.testing.assert_array_equal(vectors["d"], [5, 6])
    assert np.isnan(vectors["b"]).all()


def test_a_scan_brings_only_what_is_asked_for(resolved):
    (batch,) = scan(resolved, columns=["split"])
    assert not batch.HasField("embeddings")
    assert {(row.id, row.split, row.status, len(row.metadata)) for row in batch.rows} == {
        ("a", "", "", 0),
        ("b", "", "", 0),
        ("d", "train", "", 0),
    }
    (batch,) = scan(resolved, columns=["embedding"])
    assert batch.embeddings.count == 3
    (batch,) = scan(resolved)
    assert not batch.HasField("embeddings")


def test_a_scan_of_nothing_says_what_it_scanned(resolved):
    (batch,) = scan(resolved, where="false", with_embeddings=True)
    assert (len(batch.rows), batch.embeddings.dim, batch.space_id) == (0, 2, "declared:s")


def test_small_messages_make_small_batches(resolved):
    assert [len(batch.rows) for batch in scan(resolved, limit=8)] == [1, 1, 1]
    assert [len(batch.rows) for batch in scan(resolved, batch_size=2)] == [2, 1]


def test_an_older_version_is_read_as_it_was(collection, tmp_path):
    before = collection.version
    collection.delete(["a"])
    old = CollectionStore(tmp_path).resolve(f"c@{before}")
    assert {row.id for batch in scan(old) for row in batch.rows} == {"a", "b", "d"}
    assert scan(old)[0].collection_version == before


def test_rows_by_id_are_in_order_and_equal_to_a_scan(resolved):
    (scanned,) = scan(resolved, with_embeddings=True)
    by_id = {row.id: row for row in scanned.rows}
    asked = collections_pb2.GetRowsRequest(ids=["d", "a", "d", "b"], with_embeddings=True)
    batch = scanning.rows_by_id(resolved, asked)
    assert list(batch.rows) == [by_id[row_id] for row_id in asked.ids]
    np.testing.assert_array_equal(
        matrix_from(batch.embeddings)[:3], np.array([[5, 6], [1, 2], [5, 6]], np.float32)
    )
    assert not scanning.rows_by_id(resolved, collections_pb2.GetRowsRequest()).rows


def test_ids_without_rows_are_named(resolved):
    with pytest.raises(RowNotFound, match="no row 'q', 'r'"):
        scanning.rows_by_id(resolved, collections_pb2.GetRowsRequest(ids=["q", "a", "r", "q"]))
