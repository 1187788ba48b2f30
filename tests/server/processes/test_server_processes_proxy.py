"""A call that is passed on is the call that was made: bytes, status, metadata, deadline, cancellation."""

from __future__ import annotations

import itertools
import threading
from concurrent import futures

import grpc
import pytest

from trunkline_service.server.interceptors import CallInterceptor, Gate
from trunkline_service.server.processes.front import data_options
from trunkline_service.server.processes.proxy import Proxy, ProxyInterceptor
from trunkline_service.server.status import PUSHBACK_KEY, REASON_KEY
from trunkline_service.settings import Settings

# A service that has light methods too.
SERVICE = "trunkline.v1.Collections"
OWN = "trunkline.v1.Embedding"
PATIENCE_S = 60
AWAY = "the other process is away; try again in a second"


class Behind:
    """The server behind; a test says what its methods do."""

    def __init__(self):
        self.unary = lambda request, context: request
        self.stream = lambda request, context: iter([request])
        self.metadata = {}
        self.ended = threading.Event()

    def take_unary(self, request, context):
        self._note(context)
        return self.unary(request, context)

    def take_stream(self, request, context):
        self._note(context)
        yield from self.stream(request, context)

    def _note(self, context):
        context.add_callback(self.ended.set)
        self.metadata = dict(context.invocation_metadata())


class Seen:
    def __init__(self):
        self.calls = []
        self.told = threading.Event()

    def call(self, method, code, seconds):
        self.calls.append((method.rpartition("/")[2], code))
        self.told.set()


class Chain:
    """caller -> front -> server behind."""

    def __init__(self, socket_path):
        self.target = f"unix:{socket_path}"
        self.behind, self.seen = Behind(), Seen()
        self.gate, self.light, self.own = Gate(2), Gate(1), Gate(1)
        for gate in (self.gate, self.light, self.own):
            gate.open()
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._options = options
        self.server = self.start_behind()
        self.channel = grpc.insecure_channel(self.target, data_options(Settings()))
        self.proxy = Proxy(self.channel, self.gate, self.light, self.seen, AWAY)
        interceptor = ProxyInterceptor(CallInterceptor(self.own, self.seen), (SERVICE,))
        self.front = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[interceptor], options=options)
        methods = {"Unary": False, "Stream": True, "ListCollections": False}
        embed = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        self.front.add_generic_rpc_handlers(
            (
                self.proxy.handlers(SERVICE, methods),
                grpc.method_handlers_generic_handler(OWN, {"Embed": embed}),
            )
        )
        port = self.front.add_insecure_port("127.0.0.1:0")
        self.front.start()
        self.caller = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self.unary = self.caller.unary_unary(f"/{SERVICE}/Unary")
        self.stream = self.caller.unary_stream(f"/{SERVICE}/Stream")
        self.listing = self.caller.unary_unary(f"/{SERVICE}/ListCollections")
        self.embed = self.caller.unary_unary(f"/{OWN}/Embed")

    def start_behind(self):
        server = grpc.server(futures.ThreadPoolExecutor(8), options=self._options)
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.behind.take_unary),
            "ListCollections": grpc.unary_unary_rpc_method_handler(self.behind.take_unary),
            "Stream": grpc.unary_stream_rpc_method_handler(self.behind.take_stream),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        assert server.add_insecure_port(self.target)
        server.start()
        return server

    def close(self):
        self.caller.close()
        self.front.stop(None).wait()
        self.channel.close()
        self.server.stop(None).wait()


@pytest.fixture
def chain(tmp_path_factory):
    made = Chain(tmp_path_factory.mktemp("p") / "behind")
    yield made
    made.close()


@pytest.mark.parametrize("size", [0, 1, 20_000_000])
def test_bytes_pass_both_ways(chain, size):
    chain.behind.unary = lambda request, context: request[::-1]
    request = b"x" * (size - 1) + b"y" if size else b""
    assert chain.unary(request) == request[::-1]
    assert chain.seen.calls == [("Unary", "OK")]


def test_metadata_pass_both_ways(chain):
    def answer(request, context):
        context.send_initial_metadata((("head", "h"), ("head-bin", b"\x00\xff")))
        context.set_trailing_metadata((("tail", "t"), ("tail-bin", b"\x01")))
        return request

    chain.behind.unary = answer
    _, call = chain.unary.with_call(b"", metadata=(("asked", "a"), ("asked-bin", b"\x02")))
    assert chain.behind.metadata["asked"] == "a"
    assert chain.behind.metadata["asked-bin"] == b"\x02"
    assert dict(call.initial_metadata()) == {"head": "h", "head-bin": b"\x00\xff"}
    assert dict(call.trailing_metadata()) == {"tail": "t", "tail-bin": b"\x01"}


def refuse(request, context):
    context.set_trailing_metadata(((REASON_KEY, "overloaded"), (PUSHBACK_KEY, "250")))
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full: try again in 0.25 s")


def refuse_in_the_middle(request, context):
    yield b"first"
    refuse(request, context)


def test_a_failure_passes_with_its_words_reason_and_hint(chain):
    chain.behind.unary = refuse
    with pytest.raises(grpc.RpcError) as caught:
        chain.unary(b"")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "full: try again in 0.25 s"
    assert dict(caught.value.trailing_metadata()) == {REASON_KEY: "overloaded", PUSHBACK_KEY: "250"}
    assert chain.seen.calls == [("Unary", "RESOURCE_EXHAUSTED")]


def test_a_stream_that_fails_in_the_middle_passes_what_it_had(chain):
    chain.behind.stream = refuse_in_the_middle
    stream = chain.stream(b"")
    assert next(stream) == b"first"
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(caught.value.trailing_metadata())[REASON_KEY] == "overloaded"
    assert chain.gate.wait_empty(PATIENCE_S)


def test_the_deadline_passes_on(chain):
    left = []
    chain.behind.unary = lambda request, context: left.append(context.time_remaining()) or b""
    chain.unary(b"", timeout=PATIENCE_S)
    # gRPC rounds what it sends up.
    assert 0 < left[0] < PATIENCE_S + 1
    assert chain.behind.ended.wait(PATIENCE_S)
    ended = chain.behind.ended = threading.Event()
    chain.behind.unary = lambda request, context: ended.wait(PATIENCE_S) and b""
    with pytest.raises(grpc.RpcError) as caught:
        chain.unary(b"", timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert ended.wait(PATIENCE_S)


def test_who_goes_away_cancels_what_is_under_way(chain):
    under_way = threading.Event()

    def wait(request, context):
        under_way.set()
        chain.behind.ended.wait(PATIENCE_S)
        return b""

    chain.behind.unary = wait
    call = chain.unary.future(b"")
    assert under_way.wait(PATIENCE_S)
    call.cancel()
    assert chain.behind.ended.wait(PATIENCE_S)
    assert chain.gate.wait_empty(PATIENCE_S)
    assert chain.seen.told.wait(PATIENCE_S)
    assert chain.seen.calls == [("Unary", "CANCELLED")]


def test_a_stream_that_is_left_ends_at_its_source(chain):
    chain.behind.stream = lambda request, context: (b"x" for _ in itertools.count())
    stream = chain.stream(b"")
    next(stream)
    stream.cancel()
    assert chain.behind.ended.wait(PATIENCE_S)
    assert chain.gate.wait_empty(PATIENCE_S)


def test_a_stream_is_read_no_faster_than_its_caller_reads(chain):
    """Messages of a megabyte: what is made ahead of a caller who does not read is what buffers hold."""
    made = 0
    most = 200

    def source(request, context):
        nonlocal made
        for made in range(1, most + 1):  # noqa: B007 - read after the loop, and beside it
            yield bytes(1_000_000)

    chain.behind.stream = source
    stream = chain.stream(b"")
    for _ in range(20):
        next(stream)
    assert made < most / 2
    assert sum(1 for _ in stream) == most - 20


def test_while_the_other_is_away_callers_read_why_and_when_and_are_served_when_it_is_back(chain):
    chain.server.stop(None).wait()
    with pytest.raises(grpc.RpcError) as caught:
        chain.unary(b"")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == AWAY
    trailing = dict(caught.value.trailing_metadata())
    assert trailing[REASON_KEY] == "unavailable"
    assert int(trailing[PUSHBACK_KEY]) > 0
    chain.server = chain.start_behind()
    grpc.channel_ready_future(chain.channel).result(PATIENCE_S)
    assert chain.unary(b"back") == b"back"


def test_the_gate_holds_for_what_is_passed_on(chain):
    chain.gate.close("the server is shutting down")
    with pytest.raises(grpc.RpcError) as caught:
        chain.unary(b"")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "shutting down" in caught.value.details()
    assert chain.behind.metadata == {}


@pytest.fixture
def hanging(chain):
    """A chain whose server behind takes calls and answers none of them, with as many under way as may be."""
    taken, never = threading.Semaphore(0), threading.Event()

    def hang(request, context):
        taken.release()
        never.wait(PATIENCE_S)
        return b""

    chain.behind.unary = hang
    calls = [chain.unary.future(b""), chain.unary.future(b""), chain.listing.future(b"")]
    for _ in calls:
        assert taken.acquire(timeout=PATIENCE_S)
    yield chain, calls
    never.set()


def test_while_the_other_hangs_what_is_answered_here_is_answered(hanging):
    chain, calls = hanging
    for call in (chain.unary, chain.listing):
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailing = dict(caught.value.trailing_metadata())
        assert trailing[REASON_KEY] == "overloaded"
        assert int(trailing[PUSHBACK_KEY]) > 0
    assert chain.embed(b"image", timeout=PATIENCE_S) == b"image"
    assert not any(call.done() for call in calls)


@pytest.mark.parametrize("call", ["unary", "listing", "stream"])
def test_what_begins_while_the_other_is_in_trouble_is_refused_at_once(hanging, call):
    chain, calls = hanging
    chain.proxy.know("it has said nothing for 10 s")
    with pytest.raises(grpc.RpcError) as caught:
        list(getattr(chain, call)(b"", timeout=PATIENCE_S))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == f"{AWAY} (it has said nothing for 10 s)"
    trailing = dict(caught.value.trailing_metadata())
    assert trailing[REASON_KEY] == "unavailable"
    assert int(trailing[PUSHBACK_KEY]) > 0
    assert chain.seen.told.wait(PATIENCE_S)
    assert [code for _, code in chain.seen.calls] == ["UNAVAILABLE"]
    assert chain.embed(b"image", timeout=PATIENCE_S) == b"image"
    assert not any(call.done() for call in calls)


def test_when_the_other_is_well_again_calls_pass(chain):
    chain.proxy.know("it was ended by signal 9")
    chain.proxy.know(None)
    assert chain.unary(b"back") == b"back"
