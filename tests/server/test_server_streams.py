"""Streams: the gate is held and left, errors are translated half-way, the light calls are named."""

from __future__ import annotations

import itertools
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest

import trunkline
from trunkline_protos.open_inference import inference_pb2_grpc
from trunkline_protos.v1 import collections_pb2
from trunkline_service.errors import StorageError
from trunkline_service.server import scanning, services
from trunkline_service.server.app import Server
from trunkline_service.server.interceptors import LIGHT, CallInterceptor, Gate
from trunkline_service.server.open_inference.servicer import InferenceServicer
from trunkline_service.server.row_converters import batch_to
from trunkline_service.settings import Settings

METHOD = "/trunkline.v1.Test/Stream"
PATIENCE_S = 30


class Seen:
    """An observer that can be waited for."""

    def __init__(self) -> None:
        self.calls = []
        self.told = threading.Event()

    def call(self, method, code, seconds):
        self.calls.append((method, code))
        self.told.set()


@pytest.fixture
def serve():
    """``serve(behaviour)``: (call, gate, observer) of one streaming method behind the interceptor."""
    running = []

    def start(behaviour):
        gate, seen = Gate(1), Seen()
        gate.open()
        server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[CallInterceptor(gate, seen)])
        handler = grpc.unary_stream_rpc_method_handler(behaviour)
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("trunkline.v1.Test", {"Stream": handler})]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        running.append((server, channel))
        return channel.unary_stream(METHOD), gate, seen

    yield start
    for server, channel in running:
        channel.close()
        server.stop(None).wait()


def test_a_stream_that_is_cancelled_half_way_leaves_the_gate(serve):
    call, gate, seen = serve(lambda data, context: (b"x" for _ in itertools.count()))
    stream = call(b"")
    next(stream)
    with pytest.raises(grpc.RpcError) as caught:
        next(call(b""))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    stream.cancel()
    assert gate.wait_empty(PATIENCE_S)
    assert seen.told.wait(PATIENCE_S)
    assert next(call(b"")) == b"x"


def test_a_cancelled_stream_is_counted_as_cancelled(serve):
    call, _gate, seen = serve(lambda data, context: (b"x" for _ in itertools.count()))
    stream = call(b"")
    next(stream)
    stream.cancel()
    assert seen.told.wait(PATIENCE_S)
    assert seen.calls == [(METHOD, "CANCELLED")]


@pytest.mark.parametrize(
    ("error", "code", "words", "reason"),
    [
        (StorageError("gone"), "FAILED_PRECONDITION", "gone", "storage_error"),
        (RuntimeError("secret"), "INTERNAL", "internal error", "internal"),
    ],
)
def test_errors_in_mid_stream_are_translated_and_leave_the_gate(serve, error, code, words, reason):
    def broken(data, context):
        yield b"x"
        raise error

    call, gate, seen = serve(broken)
    stream = call(b"")
    assert next(stream) == b"x"
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code().name == code
    assert words in caught.value.details()
    assert "secret" not in caught.value.details()
    assert ("trunkline-reason", reason) in tuple(caught.value.trailing_metadata())
    assert seen.told.wait(PATIENCE_S)
    assert (gate.wait_empty(PATIENCE_S), seen.calls) == (True, [(METHOD, code)])


def test_a_stream_is_refused_before_the_gate_is_open(serve):
    call, gate, _seen = serve(lambda data, context: iter([b"x"]))
    gate.close("the server is starting")
    with pytest.raises(grpc.RpcError) as caught:
        next(call(b""))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


class Registered:
    """Takes handlers as a server does."""

    def __init__(self) -> None:
        self.methods = set()

    def add_generic_rpc_handlers(self, handlers):
        pass

    def add_registered_method_handlers(self, service, handlers):
        self.methods |= {f"/{service}/{name}" for name in handlers}


def test_the_light_calls_exist_and_read_no_vectors():
    registered = Registered()
    services.register(registered, None)
    # A real server has this one as well.
    inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        InferenceServicer(None, lambda: True), registered
    )
    assert registered.methods >= LIGHT
    reading = {f"/trunkline.v1.Collections/{name}" for name in ("GetRows", "Scan", "Upsert", "Purge")}
    assert registered.methods >= reading
    assert not LIGHT & reading


@pytest.fixture
def server(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    built = Server(
        Settings(
            models=str(tmp_path / "models"),
            data=str(tmp_path / "data"),
            default_model="tiny",
            listen="127.0.0.1:0",
            threads=1,
            drain_s=10,
        )
    )
    built.start()
    yield built
    built.stop()


@pytest.fixture(params=["remote", "local"])
def client(request, server):
    """A client of the server, and one of the same folders in this process."""
    if request.param == "remote":
        opened = trunkline.Client(str(server.address))
    else:
        opened = trunkline.open(models=server.settings.models, data=server.settings.data)
    with opened as client:
        info = client.create_collection("c", space_id="s", dim=2)
        vectors = np.ones((9, 2), np.float32)
        client.upsert("c", map(str, range(9)), vectors, space_id=info.space_id, decode="unknown")
        yield client


def test_a_scan_that_is_left_early_frees_the_gate(client, server):
    scan = client.scan("c", batch_size=1)
    assert len(next(scan)) == 1
    scan.close()
    assert server._gate.wait_empty(PATIENCE_S)
    assert sum(map(len, client.scan("c"))) == 9


def test_a_scan_that_breaks_off_says_how_far_it_came(client, monkeypatch):
    def breaking(resolved, request, limit):
        collection = resolved.collection
        (batch,) = collection.scan(["id"])
        yield batch_to(batch.slice(0, 4), "s", "c", 2, None)
        raise StorageError("the disk is gone")

    monkeypatch.setattr(scanning, "scan", breaking)
    scan = client.scan("c", ["status"])
    assert len(next(scan)) == 4
    with pytest.raises(
        trunkline.FailedPrecondition, match=r"disk is gone.*after 4 rows; scan 'c@2'"
    ) as caught:
        next(scan)
    assert caught.value.reason == "storage_error"


def test_a_defect_in_mid_stream_is_hidden(client, monkeypatch, caplog):
    def defective(resolved, request, limit):
        yield collections_pb2.RowBatch(collection="c", collection_version=2)
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(scanning, "scan", defective)
    with pytest.raises(trunkline.Internal) as caught:
        list(client.scan("c", ["status"]))
    assert "secret" not in str(caught.value)
    assert "ZeroDivisionError" in caplog.text


def test_closing_the_client_ends_its_scan(client):
    scan = client.scan("c", batch_size=1)
    next(scan)
    client.close()
    with pytest.raises(trunkline.Cancelled):
        list(scan)
