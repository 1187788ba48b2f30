"""Searches end with the call that asked for them, and what a reply can't hold is refused before."""

from __future__ import annotations

import copy
import threading
from concurrent import futures
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from trunkline_protos.v1 import common_pb2, search_pb2, search_pb2_grpc
from trunkline_service.errors import Cancelled, DeadlineExpired, InvalidArgument
from trunkline_service.index.calling_off import check_wanted
from trunkline_service.server.search_converters import search_options_from
from trunkline_service.server.servicers.calls import called_off
from trunkline_service.server.servicers.search import SearchServicer

PATIENCE_S = 30
VECTORS = common_pb2.Embeddings(count=1, dim=1, data=np.ones(1, "<f4").tobytes())
REQUESTS = [
    search_pb2.SearchRequest(images=[common_pb2.Image(encoded=b"a")]),
    search_pb2.SearchRequest(embeddings=VECTORS),
    search_pb2.SearchRequest(ids=["a"]),
    search_pb2.MeasureRecallRequest(),
]


class Working:
    """A workspace that searches until nobody waits any more."""

    settings = SimpleNamespace(max_images_per_request=8)

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()

    def search(self, *asked):
        self.begun.set()
        cancelled = asked[-1]
        pause = threading.Event()
        while not cancelled():
            pause.wait(0.001)
        self.ended.set()
        check_wanted(cancelled)

    search_vectors = search_ids = measure_recall = search


class Context:
    def __init__(self, remaining: float | None = None, ended: bool = False) -> None:
        self.remaining, self.ended, self.callbacks = remaining, ended, []

    def time_remaining(self):
        return self.remaining

    def add_callback(self, callback):
        self.callbacks.append(callback)
        return not self.ended


def ask(servicer, request, context):
    measures = isinstance(request, search_pb2.MeasureRecallRequest)
    return (servicer.MeasureRecall if measures else servicer.Search)(request, context)


@pytest.mark.parametrize("request_", REQUESTS, ids=["images", "vectors", "ids", "recall"])
@pytest.mark.parametrize(
    ("context", "error"), [(Context(0.0), DeadlineExpired), (Context(ended=True), Cancelled)]
)
def test_work_that_nobody_waits_for_ends(request_, context, error):
    with pytest.raises(error):
        ask(SearchServicer(Working()), copy.deepcopy(request_), context)


def test_work_is_told_when_the_call_ends():
    context = Context(5.0)
    with called_off(context) as cancelled:
        assert not cancelled()
        context.callbacks[0]()
        assert cancelled()
    context = Context(5.0)
    with called_off(context) as cancelled:
        context.remaining = 0.0
        assert cancelled()


@pytest.mark.parametrize("leave", ["cancel", "deadline"])
def test_over_a_socket_too(leave):
    working = Working()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    search_pb2_grpc.add_SearchServicer_to_server(SearchServicer(working), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = search_pb2_grpc.SearchStub(channel)
        call = stub.Search.future(
            search_pb2.SearchRequest(ids=["a"]), timeout=1.0 if leave == "deadline" else None
        )
        assert working.begun.wait(PATIENCE_S)
        if leave == "cancel":
            call.cancel()
        assert working.ended.wait(PATIENCE_S)
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"collapse": 0.9}, "up to 100 ids that collapse folds into it; at most 3,846 such hits"),
        ({"columns": ["a"]}, "each may have 1 column; at most 80,000 such hits"),
        ({"columns": ["a", "b"], "collapse": 0.9}, "2 columns and up to 100 ids .* at most 3,773 such hits"),
    ],
)
def test_what_comes_beside_the_hits_counts(wishes, words):
    ids = [str(index) for index in range(1000)]
    search_options_from(search_pb2.SearchRequest(ids=ids, k=100))
    with pytest.raises(
        InvalidArgument, match=f"1,000 queries with up to 100 hits each .*{words}.*send several"
    ):
        search_options_from(search_pb2.SearchRequest(ids=ids, k=100, **wishes))
