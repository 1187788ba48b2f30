"""Who watches health comes and goes while it changes, and nobody waits for anybody."""

from __future__ import annotations

import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trunkline_service.server.endpoint import Endpoint
from trunkline_service.server.interceptors import CallInterceptor
from trunkline_service.server.metrics import Metrics
from trunkline_service.settings import Settings

NAME = "trunkline.v1.One"
PATIENCE_S = 60
SERVING = health_pb2.HealthCheckResponse.SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def endpoint():
    made = Endpoint(Settings(), (NAME,), lambda gate: CallInterceptor(gate, Metrics()))
    yield made
    made.drain(0)


@pytest.fixture
def stub(endpoint):
    port = endpoint.bind("127.0.0.1:0")
    endpoint.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)


def test_watchers_that_come_and_go_while_health_changes_hold_nobody_up(endpoint, stub):
    over = threading.Event()

    def change():
        healthy = False
        while not over.is_set():
            healthy = not healthy
            endpoint.serve_all(healthy)

    def watch():
        for _ in range(150):
            stream = stub.Watch(health_pb2.HealthCheckRequest(service=NAME), timeout=PATIENCE_S)
            next(stream)
            stream.cancel()

    changer = threading.Thread(target=change, daemon=True)
    watchers = [threading.Thread(target=watch, daemon=True) for _ in range(8)]
    for thread in (changer, *watchers):
        thread.start()
    for thread in watchers:
        thread.join(PATIENCE_S)
    over.set()
    changer.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in (changer, *watchers))
    endpoint.serve_all(True)
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S).status == SERVING


def test_a_service_that_is_not_there(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    stream = stub.Watch(health_pb2.HealthCheckRequest(service="nobody"))
    assert next(stream).status == UNKNOWN
    stream.cancel()
