"""Where calls arrive: how long connections live, whom a port is shared with, what watchers of health read."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trunkline_service.errors import SettingsError, Unavailable
from trunkline_service.server import endpoint as endpoints
from trunkline_service.server.endpoint import Arrivals, Endpoint
from trunkline_service.server.interceptors import CallInterceptor, Gate
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

    def call(*, shared=False, aside=(), **settings):
        endpoint = Endpoint(
            Settings(**settings),
            NAMES,
            lambda gate: CallInterceptor(gate, Metrics()),
            shared=shared,
            aside=aside,
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


class Coming:
    """An event that says what the test says; its clock stands still but for waiting."""

    def __init__(self, waits):
        self.now = 0.0
        self._waits = iter(waits)

    def set(self):
        pass

    def clear(self):
        pass

    def wait(self, timeout_s):
        came_after = next(self._waits)
        self.now += timeout_s if came_after is None else came_after
        return came_after is not None


@pytest.mark.parametrize(
    ("waits", "took"),
    [([None], 0.05), ([0.04, 0.01, None], 0.1), (itertools.repeat(0.04), 0.52)],
    ids=["nobody comes", "a few come", "they come for ever"],
)
def test_it_waits_until_nobody_comes_but_not_for_ever(waits, took):
    arrivals = Arrivals()
    arrivals.came = coming = Coming(waits)
    arrivals.wait_for_quiet(0.05, 0.5, lambda: coming.now)
    assert coming.now == pytest.approx(took)


def test_who_comes_when_all_work_is_done_reads_that_the_server_ends(make, monkeypatch):
    """As one does who had come before and was not looked at yet."""
    aside = Gate(1)
    endpoint = make(aside=(aside,))
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    endpoint.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(NAMES[0], {"Call": echo})])
    port = endpoint.bind("127.0.0.1:0")
    endpoint.start()
    endpoint.gate.open()
    aside.open()
    aside.enter()
    # The last of the work ends while it drains.
    monkeypatch.setattr(endpoint.gate, "wait_empty", lambda timeout_s: aside.leave())
    calls, noticed = [], []
    came = endpoint._arrivals.came
    wait = came.wait
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(f"/{NAMES[0]}/Call")
        assert call(b"x") == b"x"

        def one_comes(timeout_s):
            if not noticed:
                assert aside.wait_empty(0)
                calls.append(call.future(b"x"))
            noticed.append(wait(timeout_s))
            return noticed[-1]

        monkeypatch.setattr(came, "wait", one_comes)
        stop = endpoint.server.stop
        told = []
        monkeypatch.setattr(
            endpoint.server, "stop", lambda grace: told.append(calls[0].done()) or stop(grace)
        )
        endpoint.turn_away()
        endpoint.drain(PATIENCE_S)
        # It is told when the server takes no more, so that it does not come again.
        assert told == [False]
        assert calls[0].exception().code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in calls[0].details()
    assert noticed[0]
    with pytest.raises(Unavailable, match="shutting down"):
        aside.enter()


class Pipe:
    """A connection to a port that lets the first bytes through, and the others when it is told to."""

    def __init__(self, port, first):
        self.let_go = threading.Event()
        self.holds = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._there = socket.create_connection(("127.0.0.1", port))
        self._first = first
        self._threads = [threading.Thread(target=self._forth, daemon=True)]
        self._threads[0].start()

    def _forth(self):
        self._here, _ = self._listening.accept()
        back = threading.Thread(target=self._copy, args=(self._there, self._here), daemon=True)
        self._threads.append(back)
        back.start()
        self._copy(self._here, self._there, self._first)

    def _copy(self, source, target, first=None):
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                target.sendall(data)
                passed += len(data)
                if first is not None and passed >= first:
                    self.holds.set()
                    assert self.let_go.wait(PATIENCE_S)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self.let_go.set()
        for end in (self._listening, self._here, self._there):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for end in (self._listening, self._here, self._there):
            end.close()


def test_who_is_still_sending_when_it_stops_reads_that_the_server_ends(make, monkeypatch):
    """And not that he had cancelled the call himself."""
    monkeypatch.setattr(endpoints, "_LINGER_S", PATIENCE_S)
    endpoint = make()
    port = endpoint.bind("127.0.0.1:0")
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    endpoint.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(NAMES[0], {"Call": echo})])
    endpoint.start()
    endpoint.gate.open()
    pipe = Pipe(port, first=20_000)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{pipe.port}") as channel:
            call = channel.unary_unary(f"/{NAMES[0]}/Call").future(bytes(1_000_000))
            assert pipe.holds.wait(PATIENCE_S)
            stop = endpoint.server.stop

            def stop_and_let_go(grace):
                stopped = stop(grace)
                pipe.let_go.set()
                return stopped

            monkeypatch.setattr(endpoint.server, "stop", stop_and_let_go)
            endpoint.turn_away()
            endpoint.drain(PATIENCE_S)
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            assert "shutting down" in call.details()
    finally:
        pipe.close()


def test_watchers_do_not_hold_up_its_end(make, monkeypatch):
    # Who waited for them would wait for an hour.
    monkeypatch.setattr(endpoints, "_LINGER_S", 3600)
    endpoint = make()
    port = endpoint.bind("127.0.0.1:0")
    endpoint.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(stream).status == NOT_SERVING
        endpoint.turn_away()
        endpoint.drain(0)
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in caught.value.details()
