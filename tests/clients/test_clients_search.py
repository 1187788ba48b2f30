"""Neighbours and indexes over a fake server and through both clients: what is asked, and what answers mean."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import grpc
import numpy as np
import pytest
from tests.clients.fake import SPACE

import trunkline
from trunkline_protos.v1 import search_pb2

VECTORS = {"vectors": np.eye(5, 8, dtype=np.float32), "space_id": SPACE}
RECALL = search_pb2.Recall(k=10, measured=0.97, low=0.95, queries=64, version=4, rows=900)


def test_what_is_wished_is_what_is_asked(fake, call):
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    call(
        fake,
        "search",
        "flowers",
        ids="7",
        k=3,
        where="label = ? AND grade > ? AND seen < ?",
        parameters=["O'Hara", np.float32(0.5), moment],
        min_version=12,
        min_score=0.5,
        group_by="label",
        per_group=2,
        collapse=0.75,
        exact=True,
    )
    (request,) = fake.requests
    assert request.where == "label = ? AND grade > ? AND seen < ?"
    text, number, time = request.parameters
    assert (text.text, number.number, time.time.ToDatetime(tzinfo=UTC)) == ("O'Hara", 0.5, moment)
    assert (request.k, request.min_version, request.min_score, request.collapse) == (3, 12, 0.5, 0.75)
    assert (request.group_by, request.per_group, request.exact) == ("label", 2, True)


def test_what_is_not_wished_is_not_said(fake, call):
    call(fake, "search", "flowers", ids="7")
    assert fake.requests == [search_pb2.SearchRequest(collection="flowers", ids=["7"], k=10, lane=1)]


def test_groups_and_duplicates_stand_beside_their_hits(fake, call):
    found = call(fake, "search", "flowers", [b"a", b"bad"], k=3, group_by="label", collapse=0.5)
    first = found.ids[0][0].partition("-")[0]
    assert found.groups == [[None, "g1", "g2"], []]
    assert found.duplicates == [[(), (f"{first}-x",), (f"{first}-x",) * 2], []]
    assert (found.index_kind, found.exact, found.index_version, found.recall) == ("flat", True, 5, None)
    plain = call(fake, "search", "flowers", ids="7", k=2)
    assert (plain.groups, plain.duplicates) == ([[None, None]], [[(), ()]])


def test_an_approximate_answer_says_what_was_measured(fake, call):
    fake.told.append(search_pb2.SearchResponse(index_kind="ivf_flat", index_version=4, recall=RECALL))
    fake.told[0].collection_version = 9
    found = call(fake, "search", "flowers", **VECTORS)
    assert found.recall == trunkline.Recall(10, pytest.approx(0.97), pytest.approx(0.95), 64, 4, 900)
    assert (found.version, found.index_kind, found.index_version) == (9, "ivf_flat", 4)
    assert "recall@10 0.970" in str(found.recall)


FLAT = search_pb2.SearchResponse(index_kind="flat", exact=True, index_version=9)
APPROXIMATE = search_pb2.SearchResponse(index_kind="ivf_pq", index_version=3, recall=RECALL)
BETTER = search_pb2.SearchResponse(
    index_kind="hnsw", index_version=7, recall=search_pb2.Recall(k=10, measured=0.999)
)


@pytest.mark.parametrize(
    "told", [[FLAT, APPROXIMATE, BETTER], [BETTER, FLAT, APPROXIMATE], [APPROXIMATE, FLAT, FLAT]]
)
def test_of_several_answers_the_one_that_promises_least_is_told(serve, call, told):
    fake = serve(max_images=1)
    fake.told.extend(told)
    found = call(fake, "search", "flowers", ids=["1", "2", "3"])
    assert (found.index_kind, found.index_version, found.exact) == ("ivf_pq", 3, False)
    assert found.recall.measured == pytest.approx(0.97)


def test_what_was_never_sent_promises_nothing(fake, call, tmp_path):
    found = call(fake, "search", "flowers", [tmp_path / "missing"])
    assert (found.index_kind, found.exact, found.recall, found.version) == ("", False, None, 0)
    assert (found.groups, found.duplicates) == ([[]], [[]])


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"k": 0}, "k is 0; it can be 1 to 1,000"),
        ({"k": 2.5}, "k is 2.5; it can be 1 to 1,000"),
        ({"k": 2**32}, "k is 4294967296; it can be 1 to 1,000"),
        ({"k": "5"}, "k is '5'; it can be 1 to 1,000"),
        ({"k": None}, "k is None; it can be 1 to 1,000"),
        ({"k": True}, "k is True; it can be 1 to 1,000"),
        ({"per_group": 0, "group_by": "label"}, "per_group is 0"),
        ({"per_group": "2", "group_by": "label"}, "per_group is '2'; it can be 1 to 1,000"),
        ({"per_group": 2}, "without group_by="),
        ({"min_version": -1}, "min_version is -1"),
        ({"min_score": "high"}, "min_score is 'high'"),
        ({"group_by": 7}, "group_by is 7"),
        ({"parameters": "rose", "where": "label = ?"}, "pass a list"),
        ({"parameters": [object()], "where": "label = ?"}, r"parameters\[0\] is a object"),
        ({"lane": "fast"}, "lane"),
    ],
)
def test_wishes_that_can_not_be_sent_are_refused_here(fake, call, wishes, words):
    with pytest.raises(trunkline.InvalidRequest, match=words):
        call(fake, "search", "flowers", ids="7", **wishes)
    assert fake.requests == []


def test_exactly_one_kind_of_query(fake, call):
    for given in ({}, {"images": b"a", "ids": "7"}, {"ids": "7", **VECTORS}):
        with pytest.raises(trunkline.InvalidRequest, match="exactly one of images, vectors, ids"):
            call(fake, "search", "flowers", **given)


def test_rows_of_each_group_count_as_hits_of_a_reply(fake, call):
    call(fake, "search", "flowers", ids=[str(n) for n in range(21)], k=100, group_by="label", per_group=50)
    assert sorted(len(request.ids) for request in fake.requests) == [1, 20]


def test_numbers_of_numpy_are_numbers(fake, call):
    call(fake, "search", "flowers", ids="7", k=np.int64(3))
    assert fake.requests[0].k == 3


def test_no_vectors_ask_which_version_there_is(fake, call):
    found = call(fake, "search", "flowers", vectors=VECTORS["vectors"][:0], space_id=SPACE)
    assert (found.ids, found.version, found.index_kind, found.exact) == ([], 5, "flat", True)
    (request,) = fake.requests
    assert (request.HasField("embeddings"), request.embeddings.count, request.embeddings.dim) == (True, 0, 8)
    assert request.space_id == SPACE
    # A list of nothing has no length that could be right or wrong.
    assert call(fake, "search", "flowers", vectors=[], space_id=SPACE).version == 0


def test_no_vectors_are_refused_where_vectors_would_be(fake, call, refusal):
    fake.refusals.append(refusal(grpc.StatusCode.NOT_FOUND, "there is no collection 'flowers'"))
    with pytest.raises(trunkline.NotFound):
        call(fake, "search", "flowers", vectors=VECTORS["vectors"][:0], space_id=SPACE)


def test_an_index_is_told_whole(fake, call):
    found = call(fake, "index", "flowers")
    recall = trunkline.Recall(10, 0.995, 0.99, 100, 4, 3)
    assert found == trunkline.IndexInfo(
        collection="flowers",
        version=5,
        kind="hnsw",
        options=trunkline.IndexOptions("auto", 0.99, 10, 64),
        rows=3,
        delta_rows=1,
        deleted_rows=2,
        build=trunkline.IndexBuild(
            id="000000000004-ab",
            version=4,
            kind="hnsw",
            rows=2,
            held_out=1,
            parameters={"M": 32, "efConstruction": 200},
            effort=64,
            recall=recall,
            settings=(trunkline.IndexSetting(64, 0.995, 1000.5),),
            reason="it reached the wanted recall",
            options=trunkline.IndexOptions("hnsw", 0.98, 5, 64),
            seconds=1.5,
            memory_bytes=100,
            stored_bytes=200,
            space_id=SPACE,
            dim=8,
            metric="cosine",
            made_by={"faiss": "1"},
            created_at="2026-01-01T00:00:00+00:00",
            levels=(trunkline.IndexLevel(64, recall),),
        ),
        recall=recall,
        building=True,
        note="as asked",
    )
    assert dataclasses.asdict(found)["build"]["settings"][0]["effort"] == 64
    plain = call(fake, "drop_index", "flowers")
    assert (plain.build, plain.recall, plain.options.memory_mb) == (None, None, None)


def test_a_build_tells_how_far_it_is_and_ends_with_the_index(fake, call):
    told = []
    found = call(
        fake,
        "build_index",
        "flowers",
        kind="hnsw",
        recall=0.95,
        memory_mb=0,
        progress=lambda *s: told.append(s),
    )
    assert told == [("reading", 0.0), ("reading", 0.5)]
    assert found.collection == "flowers"
    options = search_pb2.IndexOptions(kind="hnsw", recall=0.95, memory_mb=0)
    assert fake.requests == [search_pb2.BuildIndexRequest(collection="flowers", options=options)]
    assert fake.requests[0].options.HasField("memory_mb")
    call(fake, "build_index", "flowers")
    assert not fake.requests[1].HasField("options")


def test_a_build_whose_progress_raises_is_ended(fake, call):
    fake.endless_builds = True

    def stop(_stage, share):
        if share:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        call(fake, "build_index", "flowers", progress=stop, then=lambda: fake.wait_for(lambda f: f.cancelled))


def test_a_build_that_broke_off_says_what_stands(fake, call, refusal):
    fake.break_builds.append(refusal(grpc.StatusCode.UNAVAILABLE, "draining"))
    with pytest.raises(trunkline.Unavailable, match=r"the index before serves on; index\('flowers'\) tells"):
        call(fake, "build_index", "flowers")
    said = (("trunkline-reason", "failed_precondition"),)
    fake.break_builds.append(refusal(grpc.StatusCode.FAILED_PRECONDITION, "somebody else builds", said))
    with pytest.raises(trunkline.FailedPrecondition) as caught:
        call(fake, "build_index", "flowers")
    assert "serves on" not in str(caught.value)
    fake.indexless_builds = True
    with pytest.raises(trunkline.Internal, match="without an index"):
        call(fake, "build_index", "flowers")


def test_what_is_wished_of_an_index(fake, call):
    call(fake, "set_index", "flowers", k=5)
    assert fake.requests == [
        search_pb2.SetIndexRequest(collection="flowers", options=search_pb2.IndexOptions(k=5))
    ]
    with pytest.raises(trunkline.InvalidRequest, match="nothing to set"):
        call(fake, "set_index", "flowers")
    for wrong in ({"k": -1}, {"recall": "all"}, {"memory_mb": 1.5}, {"kind": 7}):
        ((name, value),) = wrong.items()
        with pytest.raises(trunkline.InvalidRequest, match=f"{name} is {value!r}"):
            call(fake, "set_index", "flowers", **wrong)
        with pytest.raises(trunkline.InvalidRequest, match=f"{name} is {value!r}"):
            call(fake, "build_index", "flowers", **wrong)


def test_recall_is_measured_as_asked(fake, call):
    assert call(fake, "measure_recall", "flowers") == trunkline.Recall(10, 0.75, 0.5, 1000, 5, 3)
    assert call(fake, "measure_recall", "flowers", 5, queries=20).queries == 20
    for wrong in ({"k": 0}, {"queries": 0}, {"k": True}, {"queries": 1.5}):
        with pytest.raises(trunkline.InvalidRequest, match="must be a positive integer"):
            call(fake, "measure_recall", "flowers", **wrong)
