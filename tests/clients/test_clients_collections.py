"""Rows in and out of collections, over a real server and through both clients."""

from __future__ import annotations

from datetime import UTC, datetime

import grpc
import numpy as np
import pytest

import trunkline
from trunkline._wire import portions
from trunkline_protos.v1 import collections_pb2

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
RNG = np.random.default_rng(5)


def vectors(count):
    return RNG.normal(size=(count, 8)).astype(np.float32)


def mixed_rows():
    own = {"n": 1, "x": 0.5, "s": "é", "b": True, "t": MOMENT}
    return [
        trunkline.Row(
            "a",
            vectors(1)[0],
            "rose",
            "train",
            "a.jpg",
            "h1",
            "e1",
            5,
            1.5,
            "fast",
            job="j",
            metadata=own,
            embedded_at=MOMENT,
        ),
        trunkline.Row("b", None, status="error", error="bad: x", decode="exact"),
        trunkline.Row("c", vectors(1)[0], ("x", "y"), metadata={"n": None}),
        trunkline.Row("d", vectors(1)[0], ()),
    ]


def fields_of(row):
    return {
        name: value for name, value in vars(row).items() if name not in ("embedding", "metadata", "decode")
    }


def test_rows_come_back_as_they_went(fake, call):
    sent = mixed_rows()
    assert call(fake, "upsert_rows", "flowers", sent, space_id=fake.space_id, decode="exact") == 1
    rows = call(fake, "rows", "flowers", [row.id for row in sent])
    assert rows.complete
    for ours, theirs in zip(sent, rows.rows, strict=True):
        assert fields_of(ours) == fields_of(theirs)
        assert theirs.metadata == ours.metadata
        np.testing.assert_array_equal(ours.embedding, theirs.embedding)
    assert rows.decodes[0] == "fast"
    assert np.isnan(rows.vectors[1]).all()
    assert repr(rows) == "Rows(4 rows, flowers@1, dim 8)"
    (request, _rows) = fake.requests
    assert (request.space_id, request.decode) == (fake.space_id, "exact")


def test_upsert_goes_in_requests_of_bounded_size(fake, call, monkeypatch):
    monkeypatch.setattr(portions, "MAX_ENTRIES", 4)
    matrix = vectors(10)
    ids = [f"i{index}" for index in range(10)]
    labels = [None, *"abcdefghi"]
    told = []
    said = {"labels": labels, "splits": ["test"] * 10, "progress": lambda *step: told.append(step)}
    version = call(fake, "upsert", "flowers", ids, matrix, space_id="s", **said)
    assert version == 3
    assert told == [("storing", 0.4), ("storing", 0.8), ("storing", 1.0)]
    assert [len(request.rows) for request in fake.requests] == [4, 4, 2]
    stored = [fake.stored[name] for name in ids]
    np.testing.assert_array_equal([vector for _row, vector in stored], matrix)
    assert [row.label if row.HasField("label") else None for row, _vector in stored] == labels


@pytest.mark.parametrize(("said", "sent"), [({}, ""), ({"decode": "exact"}, "exact")])
def test_the_decode_mode_is_the_collections_own_unless_it_is_told(fake, call, said, sent):
    call(fake, "upsert", "flowers", ["a"], vectors(1), space_id="s", **said)
    assert fake.requests[0].decode == sent


def test_an_upsert_whose_progress_raises_is_ended(fake, call, monkeypatch):
    monkeypatch.setattr(portions, "MAX_ENTRIES", 1)

    def stop(_stage, _share):
        raise KeyError("enough")

    with pytest.raises(KeyError):
        call(fake, "upsert", "flowers", ["a", "b"], vectors(2), space_id="s", progress=stop)
    assert len(fake.requests) == 1


def test_no_request_is_larger_than_the_server_takes(serve, call):
    fake = serve(max_message_bytes=4000)
    rows = [trunkline.Row(str(index), np.ones(8, np.float32), source="x" * 700) for index in range(20)]
    call(fake, "upsert_rows", "flowers", rows, space_id="s", decode="exact")
    assert len(fake.stored) == 20
    assert len(fake.requests) > 3
    assert max(request.ByteSize() for request in fake.requests) <= 4000
    big = trunkline.Row("big", np.ones(8, np.float32), source="x" * 5000)
    with pytest.raises(trunkline.MessageTooLarge, match="row 'big'") as caught:
        call(fake, "upsert_rows", "flowers", [rows[0], big], space_id="s", decode="exact")
    assert caught.value.items == range(1, 2)


def test_nothing_to_upsert_asks_all_the_same(fake, call):
    assert call(fake, "upsert", "flowers", [], np.empty((0, 8)), space_id="s") == 1
    (request,) = fake.requests
    assert (request.space_id, len(request.rows)) == ("s", 0)


def test_rows_are_read_as_they_are_needed(fake, call, monkeypatch):
    monkeypatch.setattr(portions, "MAX_ENTRIES", 2)
    seen = []

    def rows():
        for index in range(6):
            seen.append(len(fake.requests))
            yield trunkline.Row(str(index), np.ones(8))

    call(fake, "upsert_rows", "flowers", rows(), space_id="s", decode="exact")
    assert seen == [0, 0, 0, 1, 1, 2]


def test_half_floats_stay_half_on_the_wire(fake, call):
    half = vectors(2).astype(np.float16)
    call(fake, "upsert", "flowers", ["a", "b"], half, space_id="s")
    assert len(fake.requests[0].embeddings.data) == half.nbytes
    rows = call(fake, "rows", "flowers", ["a", "b"], dtype="float16")
    assert rows.vectors.dtype == np.float16
    np.testing.assert_array_equal(rows.vectors, half)


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("upsert", {"ids": ["a"], "vectors": [[1.0], [2.0]]}, "ids has 1 entries for 2 vectors"),
        ("upsert", {"ids": ["a"], "vectors": [[1.0]], "labels": ["x", "y"]}, "labels has 2"),
        ("upsert", {"ids": ["a"], "vectors": [[1.0]], "labels": "x"}, "labels is a text"),
        ("upsert", {"ids": ["a"], "vectors": [["x"]]}, r"\(N, dim\)"),
        ("upsert", {"ids": [7], "vectors": [[1.0]]}, r"ids\[0\] is 7"),
        ("upsert", {"ids": ["a"], "vectors": [[1.0]], "labels": [7]}, "row 'a': its label is 7"),
        ("upsert", {"ids": ["a"], "vectors": [[1.0]], "splits": [7]}, "row 'a' can't be sent"),
        ("upsert", {"ids": ["\ud800"], "vectors": [[1.0]]}, "Unicode"),
        (
            "upsert",
            {"ids": ["a"], "vectors": [[1.0]], "metadata": [{"n": 2**63}]},
            "'a', column 'n'.*64 bits",
        ),
        ("upsert", {"ids": ["a"], "vectors": [[1.0]], "metadata": [{"n": [1]}]}, "'n' is a list"),
        (
            "upsert",
            {"ids": ["a"], "vectors": [[1.0]], "metadata": [{"t": datetime(2026, 1, 1)}]},
            "no time zone",
        ),
    ],
)
def test_rows_that_can_not_be_sent_are_refused_here(fake, call, method, arguments, words):
    with pytest.raises(trunkline.InvalidRequest, match=words):
        call(fake, method, "flowers", space_id="s", **arguments)
    assert fake.requests == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([trunkline.Row("a", None)], "'a' has status 'ok' and no embedding"),
        ([trunkline.Row("a", np.ones(8), status="error", error="x")], "'error' and an embedding"),
        ([trunkline.Row("a", np.ones(8), embedded_at="2026")], "embedded_at is '2026'"),
        ([trunkline.Row("a", np.ones(8), embedded_at=datetime(2026, 1, 1))], "no time zone"),
        ([trunkline.Row("a", np.ones((1, 8)))], r"shape \(1, 8\)"),
        (
            [trunkline.Row("a", np.ones(8)), trunkline.Row("b", np.ones(7))],
            "row 'b'.*7 floats, others have 8",
        ),
    ],
)
def test_embeddings_that_contradict_their_rows_are_refused_here(fake, call, rows, words):
    with pytest.raises(trunkline.InvalidRequest, match=words):
        call(fake, "upsert_rows", "flowers", rows, space_id="s")
    assert fake.requests == []


def fill(fake, count):
    for index in range(count):
        row = collections_pb2.Row(id=str(index), status="ok", label="x", etag="e" if index else None)
        fake.stored[row.id] = (row, np.full(8, index, np.float32))
    fake.version = 4


def test_rows_by_id_are_all_of_the_first_replys_version(serve, call):
    fake = serve(max_images=3)
    fill(fake, 8)
    ids = ["7", "1", "1", "0", "5", "6", "2"]
    rows = call(fake, "rows", "photos@prod", ids)
    assert rows.ids == ids
    assert rows.vectors[:, 0].tolist() == [float(row_id) for row_id in ids]
    assert rows.etags[3] is None
    assert [request.collection for request in fake.requests] == ["photos@prod", "flowers@4", "flowers@4"]
    assert call(fake, "rows", "flowers", "3").ids == ["3"]
    assert len(call(fake, "rows", "flowers", [])) == 0


def test_a_scan_brings_batches(fake, call):
    fill(fake, 5)
    parts = call(fake, "scan", "flowers", where="label = ?", parameters=["x"], batch_size=2)
    assert [part.ids for part in parts] == [["0", "1"], ["2", "3"], ["4"]]
    assert all(part.complete for part in parts)
    (request,) = fake.requests
    assert (request.where, request.parameters[0].text, request.with_embeddings) == ("label = ?", "x", True)


def test_a_scan_of_columns_leaves_the_others_out(fake, call):
    fill(fake, 2)
    (part,) = call(fake, "scan", "flowers", ["etag"])
    assert (part.ids, part.etags, part.labels, part.statuses, part.vectors) == (
        ["0", "1"],
        [None, "e"],
        [],
        [],
        None,
    )
    assert list(fake.requests[0].columns) == ["id", "etag"]
    with pytest.raises(trunkline.InvalidRequest, match="every column"):
        _ = part.rows
    (part,) = call(fake, "scan", "flowers", ["embedding"])
    assert part.vectors.shape == (2, 8)
    (part,) = call(fake, "scan", "flowers", [])
    assert (part.ids, part.vectors) == (["0", "1"], None)
    assert list(fake.requests[-1].columns) == ["id"]


def test_a_scan_of_nothing_is_one_empty_batch(fake, call):
    (part,) = call(fake, "scan", "flowers")
    assert (len(part), part.vectors.shape, part.space_id) == (0, (0, 8), fake.space_id)


def test_a_scan_is_begun_again_before_its_first_batch(fake, call, fake_time, refusal):
    fill(fake, 3)
    fake.refusals.extend([refusal(UNAVAILABLE, "draining", (("trunkline-reason", "unavailable"),))] * 2)
    parts = call(fake, "scan", "flowers", client={"_rim": fake_time.rim})
    assert sum(map(len, parts)) == 3
    assert fake_time.pauses == pytest.approx([0.05, 0.1])


def test_a_scan_that_breaks_off_after_its_first_batch_is_not_begun_again(fake, call, fake_time, refusal):
    fill(fake, 5)
    fake.break_scans.append(refusal(UNAVAILABLE, "draining", (("trunkline-reason", "unavailable"),)))
    with pytest.raises(trunkline.Unavailable, match="after 2 rows; scan 'flowers@4'"):
        call(fake, "scan", "flowers", client={"_rim": fake_time.rim})
    assert (len(fake.requests), fake_time.pauses) == (1, [])


def test_a_scan_that_is_left_early_ends_on_the_server(fake, call):
    fill(fake, 2)
    fake.endless_scans = True
    parts = call(fake, "scan", "flowers", take=1, then=lambda: fake.wait_for(lambda f: f.ended == 1))
    assert len(parts) == 1


def test_a_batch_of_another_version_ends_a_scan(fake, call, monkeypatch):
    fill(fake, 4)
    batch = fake.batch

    def newer(*arguments):
        fake.version += 1
        return batch(*arguments)

    monkeypatch.setattr(fake, "batch", newer)
    with pytest.raises(trunkline.SpaceMismatch, match=r"flowers@6.*flowers@5"):
        call(fake, "scan", "flowers")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"columns": "id"}, "columns is the text"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"dtype": "float64"}, "dtype"),
        ({"where": "n = ?", "parameters": "x"}, "parameters is the text"),
        ({"where": "n = ?", "parameters": [object()]}, r"parameters\[0\] is a object"),
    ],
)
def test_a_scan_that_can_not_be_asked_for_is_refused_here(fake, call, arguments, words):
    with pytest.raises(trunkline.InvalidRequest, match=words):
        call(fake, "scan", "flowers", **arguments)
    assert fake.requests == []


def test_relabel_by_id_goes_in_requests_of_bounded_size(fake, call, monkeypatch):
    monkeypatch.setattr(portions, "MAX_ENTRIES", 2)
    labels = {"a": "x", "b": None, "c": ("x", "y"), "d": (), "e": "z"}
    assert call(fake, "relabel", "flowers", labels) == trunkline.Written(rows=5, version=3)
    sent = {name: value for request in fake.requests for name, value in request.changes.values.items()}
    assert sent["a"].value.text == "x"
    assert sent["b"].value.WhichOneof("kind") is None
    assert list(sent["c"].labels.labels) == ["x", "y"]
    assert sent["d"].WhichOneof("kind") == "labels"


def test_relabel_by_condition(fake, call):
    call(fake, "relabel", "flowers", label=3, where="n > ?", parameters=[np.int32(2)], column="grade")
    (request,) = fake.requests
    assert (request.column, request.where.value.value.integer) == ("grade", 3)
    assert (request.where.condition.where, request.where.condition.parameters[0].integer) == ("n > ?", 2)


def test_nothing_to_relabel_or_delete_is_no_condition(fake, call):
    call(fake, "relabel", "flowers", {})
    call(fake, "delete", "flowers", [])
    assert fake.requests[0].WhichOneof("change") == "changes"
    assert fake.requests[1].WhichOneof("selection") == "ids"


def test_delete_by_id_and_by_condition(fake, call, monkeypatch):
    monkeypatch.setattr(portions, "MAX_ENTRIES", 2)
    assert call(fake, "delete", "flowers", ["a", "b", "c"]).rows == 3
    assert [list(request.ids.ids) for request in fake.requests] == [["a", "b"], ["c"]]
    assert call(fake, "delete", "flowers", where="status = 'error'").rows == 7


def test_purge_by_id_and_by_condition(fake, call):
    assert call(fake, "purge", "flowers", ["a", "b"]).unowned_files == 2
    assert call(fake, "purge", "flowers", where="n = ?", parameters=[1], exclusive=True).unowned_files == 0
    first, second = fake.requests
    assert (list(first.ids.ids), first.exclusive) == (["a", "b"], False)
    assert (second.condition.where, second.condition.parameters[0].integer, second.exclusive) == (
        "n = ?",
        1,
        True,
    )


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("delete", {}, "exactly one"),
        ("delete", {"ids": ["a"], "where": "true"}, "exactly one"),
        ("delete", {"ids": ["a"], "parameters": [1]}, "no where"),
        ("purge", {}, "exactly one"),
        ("relabel", {}, "exactly one"),
        ("relabel", {"labels": {"a": "x"}, "label": "x"}, "belong to where"),
        ("relabel", {"labels": [("a", "x")]}, "pass a dict"),
        ("tag", {"tag": "t", "version": 0}, "version is 0"),
        ("restore", {"version": "7"}, "version is '7'"),
        ("create_collection", {"space_id": "s"}, "dim None"),
        ("create_collection", {"space_id": "s", "dim": 8, "model": "m"}, "no model"),
    ],
)
def test_calls_that_contradict_themselves_are_refused_here(fake, call, method, arguments, words):
    with pytest.raises(trunkline.InvalidRequest, match=words):
        call(fake, method, "flowers", **arguments)
    assert fake.requests == []
