"""The Search service over a workspace that only remembers what it was asked: over a socket and in this process."""

from __future__ import annotations

import threading
from concurrent import futures
from dataclasses import replace

import grpc
import numpy as np
import pytest

import trunkline
from trunkline_protos.v1 import common_pb2, search_pb2
from trunkline_service.batching.request import Timings
from trunkline_service.errors import Cancelled, FailedPrecondition, InvalidArgument
from trunkline_service.index.card import IndexCard, IndexFile, Level, Recall, Setting
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.outcome import Hit, Searched, SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.state import IndexState
from trunkline_service.models.session import parse_device
from trunkline_service.server import services
from trunkline_service.server.in_process import InProcessChannel
from trunkline_service.server.interceptors import CallInterceptor, Gate
from trunkline_service.server.servicers.search import SearchServicer
from trunkline_service.settings import Settings
from trunkline_service.workspace import Found

PATIENCE_S = 30
RECALL = Recall(k=10, measured=0.995, low=0.99, queries=100, version=4, rows=3)
WISHED = IndexOptions(kind="hnsw", recall=0.98, k=5, memory_mb=64)
CARD = IndexCard(
    build="000000000004-ab",
    collection="photos",
    uid="u",
    space_id="s",
    dim=2,
    metric="dot",
    version=4,
    kind="hnsw",
    rows=20,
    held_out=1,
    parameters={"M": 32, "efConstruction": 200},
    effort=64,
    recall=RECALL,
    settings=(Setting(32, 0.9, 2000.0), Setting(64, 0.995, 1000.5)),
    reason="it reached the wanted recall",
    options=WISHED,
    seconds=1.5,
    nbytes=100,
    files=(IndexFile("a", 30, "00"), IndexFile("b", 70, "11")),
    made_by={"faiss": "1"},
    created_at="2026-01-01T00:00:00+00:00",
    levels=(Level(64, RECALL), Level(128, replace(RECALL, k=100))),
)
STATE = IndexState(
    collection="photos",
    version=7,
    kind="hnsw",
    options=WISHED,
    rows=22,
    delta_rows=3,
    deleted_rows=2,
    card=CARD,
    recall=RECALL,
    building=True,
    note="a build is under way",
)


class Remembering:
    """A workspace's part that searches; ``asked`` holds what it was asked."""

    settings = Settings()
    device = parse_device("cpu")
    explore = None

    def __init__(self) -> None:
        self.asked = []
        self.hits = [Hit("a", 0.5, "rose", "a.jpg", "red", ("b", "c")), Hit("d", 0.25, ("x", "y"), "d.jpg")]
        self.searched = Searched("hnsw", False, 4, RECALL)
        self.build = lambda progress, cancelled: None
        self.work = lambda cancelled: None
        self.cancelled = threading.Event()

    def close(self):
        pass

    def _found(self, options, queries, cancelled):
        self.asked.append(options)
        self.work(cancelled)
        outcome = SearchOutcome("s", 7, "dot", [self.hits] * queries, self.searched)
        return Found(outcome, {}, "s", Timings())

    def search(self, collection, images, options, caller, cancelled):
        return self._found(options, len(images), cancelled)

    def search_vectors(self, collection, vectors, space_id, options, cancelled):
        return self._found(options, len(vectors), cancelled)

    def search_ids(self, collection, ids, options, cancelled):
        return self._found(options, len(ids), cancelled)

    def index(self, collection):
        return STATE

    def index_options(self, collection):
        return STATE.options

    def build_index(self, collection, options, progress, cancelled):
        self.asked.append(options)
        try:
            self.build(progress, cancelled)
        except Cancelled:
            self.cancelled.set()
            raise
        return STATE

    def set_index(self, collection, options):
        self.asked.append(options)
        return STATE

    def drop_index(self, collection):
        self.asked.append("drop")
        return STATE

    def measure_recall(self, collection, k, queries, cancelled):
        self.asked.append((k, queries))
        self.work(cancelled)
        return RECALL


class Unheard:
    def call(self, method, code, seconds):
        pass


@pytest.fixture
def workspace():
    return Remembering()


@pytest.fixture(params=["remote", "local"])
def client(request, workspace):
    """A client of the services over the workspace, over a socket and in this process."""
    if request.param == "local":
        with trunkline.Client._over([InProcessChannel(workspace)], retries=0) as opened:
            yield opened
        return
    gate = Gate(8)
    gate.open()
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[CallInterceptor(gate, Unheard())])
    services.register(server, workspace)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with trunkline.Client(f"127.0.0.1:{port}", retries=0) as opened:
        yield opened
    server.stop(None).wait()


QUERIES = [
    {"images": [np.zeros((2, 2, 3), np.uint8)]},
    {"vectors": np.ones((1, 2), np.float32), "space_id": "s"},
    {"ids": ["a"]},
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: next(iter(query)))
def test_a_search_reaches_the_workspace_as_it_was_wished(client, workspace, query):
    wishes = {
        "k": 3,
        "where": "label = ? AND grade > ?",
        "parameters": ("O'Hara", 2),
        "min_version": 12,
        "min_score": 0.5,
        "group_by": "label",
        "per_group": 2,
        "collapse": 0.75,
        "exact": True,
        "columns": ("price", "camera"),
    }
    workspace.hits = [workspace.hits[0]._replace(metadata={"price": 1.5, "camera": None})]
    client.search("photos", **query, **wishes)
    client.search("photos", **query)
    assert workspace.asked == [SearchOptions(**wishes), SearchOptions()]


def test_hits_come_with_groups_duplicates_and_how_they_were_found(client, workspace):
    found = client.search("photos", ids=["q"])
    assert (found.ids, found.scores, found.labels) == ([["a", "d"]], [[0.5, 0.25]], [["rose", ("x", "y")]])
    assert (found.groups, found.duplicates) == ([["red", None]], [[("b", "c"), ()]])
    assert (found.version, found.metric, found.space_id) == (7, "dot", "s")
    assert (found.index_kind, found.exact, found.index_version) == ("hnsw", False, 4)
    assert found.recall == trunkline.Recall(**vars(RECALL))
    workspace.searched = Searched("flat", True, 7)
    found = client.search("photos", ids=["q"])
    assert (found.index_kind, found.exact, found.index_version, found.recall) == ("flat", True, 7, None)


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"k": 1001}, "k is 1001; it can be 1 to 1,000"),
        ({"min_score": float("nan")}, "min_score is NaN"),
        ({"collapse": float("nan")}, "collapse is NaN"),
        ({"parameters": [1]}, "without a condition"),
        ({"group_by": "label", "per_group": 1001, "k": 1}, "per_group is 1001; it can be 1 to 1,000"),
        ({"group_by": "label", "per_group": 500, "k": 500}, "250,000 hits; at most 100,000"),
        ({"columns": ["price", "camera", "price"]}, "columns names 'price' twice"),
    ],
)
def test_what_can_not_be_searched_for_is_refused(client, workspace, wishes, words):
    with pytest.raises(trunkline.InvalidRequest, match=words):
        client.search("photos", ids=["q"], **wishes)
    assert workspace.asked == []


def test_a_request_holds_one_kind_of_query(workspace):
    embeddings = common_pb2.Embeddings(count=1, dim=1, data=b"1234")
    for given in (
        {},
        {"ids": ["a"], "embeddings": embeddings},
        {"ids": ["a"], "images": [common_pb2.Image()]},
    ):
        request = search_pb2.SearchRequest(collection="photos", **given)
        with pytest.raises(InvalidArgument, match=f"exactly one of .* this one holds {len(given)}"):
            SearchServicer(workspace).Search(request, None)
    assert workspace.asked == []


def test_an_index_is_told_whole(client):
    found = client.index("photos")
    build = found.build
    assert build is not None
    assert (found.collection, found.version, found.kind, found.rows) == ("photos", 7, "hnsw", 22)
    assert (found.delta_rows, found.deleted_rows, found.building) == (3, 2, True)
    assert (found.note, vars(found.recall), vars(found.options)) == (STATE.note, vars(RECALL), vars(WISHED))
    same = (
        "version",
        "kind",
        "rows",
        "held_out",
        "parameters",
        "effort",
        "reason",
        "seconds",
        "space_id",
        "dim",
    )
    for name in (*same, "metric", "made_by", "created_at"):
        assert getattr(build, name) == getattr(CARD, name), name
    assert (build.id, build.memory_bytes, build.stored_bytes) == (CARD.build, CARD.nbytes, 100)
    assert (vars(build.recall), vars(build.options)) == (vars(RECALL), vars(WISHED))
    assert [vars(setting) for setting in build.settings] == [vars(setting) for setting in CARD.settings]
    assert [(level.effort, level.recall.k) for level in build.levels] == [(64, 10), (128, 100)]
    assert vars(build.levels[0].recall) == vars(RECALL)


@pytest.mark.parametrize("call", ["set_index", "build_index"])
def test_what_is_not_wished_anew_stays(client, workspace, call):
    getattr(client, call)("photos", recall=0.9)
    getattr(client, call)("photos", kind="auto", k=7, memory_mb=0)
    assert workspace.asked == [IndexOptions("hnsw", 0.9, 5, 64), IndexOptions("auto", 0.98, 7, None)]
    for wrong, words in (
        ({"kind": "tree"}, "'tree'"),
        ({"recall": 1.5}, "recall is 1.5"),
        ({"k": 0}, "k is 0"),
    ):
        with pytest.raises(trunkline.InvalidRequest, match=words):
            getattr(client, call)("photos", **wrong)


def test_a_build_tells_how_far_it_is(client, workspace):
    def build(progress, cancelled):
        for share in (0.0, 0.5, 1.0):
            progress("reading", share)
        progress("measuring", 0.0)
        assert not cancelled()

    workspace.build = build
    told = []
    found = client.build_index("photos", progress=lambda *step: told.append(step))
    assert told == [("reading", 0.0), ("reading", 0.5), ("reading", 1.0), ("measuring", 0.0)]
    assert (found.collection, workspace.asked) == ("photos", [None])


@pytest.mark.parametrize("asks", [True, False], ids=["asks", "reports"])
def test_a_build_ends_with_the_caller(client, workspace, asks):
    def build(progress, cancelled):
        progress("reading", 0.0)
        while not (asks and cancelled()):
            progress("reading", 0.0 if asks else 1.0)
            threading.Event().wait(0.001)
        raise Cancelled("the caller went away")

    workspace.build = build

    def leave(_stage, _share):
        raise KeyError("enough")

    with pytest.raises(KeyError):
        client.build_index("photos", progress=leave)
    assert workspace.cancelled.wait(PATIENCE_S)


def test_a_build_that_fails_says_why(client, workspace):
    def build(progress, cancelled):
        progress("reading", 0.0)
        raise FailedPrecondition("another process builds it")

    workspace.build = build
    with pytest.raises(trunkline.FailedPrecondition, match="another process builds it"):
        client.build_index("photos")


def test_dropping_and_measuring(client, workspace):
    assert client.drop_index("photos").collection == "photos"
    assert client.measure_recall("photos") == trunkline.Recall(**vars(RECALL))
    client.measure_recall("photos", 5, 20)
    assert workspace.asked == ["drop", (10, 1000), (5, 20)]
