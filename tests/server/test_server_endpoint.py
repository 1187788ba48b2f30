"""Where calls arrive: how long connections live, whom a port is shared with, what watchers of health read."""

from __future__ import annotations

import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trunkline_service.errors import SettingsError
from trunkline_service.server.endpoint import Endpoint
from trunkline_service.server.interceptors import CallInterceptor
from trunkline_service.server.metrics import Metrics
from trunkline_service.settings import Settings

NAMES = ("trunkline.v1.One", "trunkline.v1.Two")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PATIENCE_S = 60


@pytest.fixture
def make():
    """``make(...)`` is an endpoint that is stopped in the end."""
    made = []

    def call(*, shared=False, **settings):
        endpoint = Endpoint(
            Settings(**settings), NAMES, lambda gate: CallInterceptor(gate, Metrics()), shared=shared
        )
        made.append(endpoint)
        return endpoint

    yield call
    for endpoint in made:
        endpoint.drain(0)


def test_clients_are_asked_to_connect_anew_when_a_connection_is_old(make):
    endpoint = make(max_connection_age_s=0.1)
    port = endpoint.bind("127.0.0.1:0")
    endpoint.start()
    states, left = [], threading.Event()

    def follow(state):
        states.append(state)
        if grpc.ChannelConnectivity.READY in states and state is grpc.ChannelConnectivity.IDLE:
            left.set()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.subscribe(follow, try_to_connect=True)
        assert left.wait(PATIENCE_S), states
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())


def test_a_port_is_shared_only_where_both_sides_want_it(make):
    port = make(shared=True).bind("127.0.0.1:0")
    assert make(shared=True).bind(f"127.0.0.1:{port}") == port
    with pytest.raises(SettingsError, match="another server"):
        make().bind(f"127.0.0.1:{port}")


def test_watchers_are_told_of_changes_alone_and_of_no_change_after_it_turns_away(make):
    endpoint = make()
    port = endpoint.bind("127.0.0.1:0")
    endpoint.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        whole = stub.Watch(health_pb2.HealthCheckRequest())
        one = stub.Watch(health_pb2.HealthCheckRequest(service=NAMES[0]))
        assert (next(whole).status, next(one).status) == (NOT_SERVING, NOT_SERVING)
        for _ in range(2):
            endpoint.set_health({NAMES[0]: True})
        assert next(one).status == SERVING
        endpoint.serve_all(True)
        assert next(whole).status == SERVING
        endpoint.set_health({})
        assert (next(whole).status, next(one).status) == (NOT_SERVING, NOT_SERVING)
        endpoint.turn_away()
        endpoint.serve_all(True)
        assert stub.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
        whole.cancel()
        one.cancel()
