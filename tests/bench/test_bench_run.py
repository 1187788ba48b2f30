"""Load on a real server in this process."""

from __future__ import annotations

import asyncio
import dataclasses
import signal

import grpc
import numpy as np
import pytest

from trunkline_protos.open_inference import inference_pb2
from trunkline_protos.v1 import common_pb2, embedding_pb2
from trunkline_service.bench import open_inference_dialect, report, run, trunkline_dialect
from trunkline_service.bench.calls import Calls, Servers
from trunkline_service.bench.dialect import TOO_LARGE
from trunkline_service.bench.load import ClosedLoop, OpenLoop, Periods
from trunkline_service.bench.pictures import pixels_of
from trunkline_service.bench.raw import Ceiling, Tried
from trunkline_service.bench.run import Result
from trunkline_service.errors import FailedPrecondition, InvalidArgument, Unavailable
from trunkline_service.images.inputs import EncodedImage
from trunkline_service.models.plan import ExecutionPlan

# An hour, which nobody waits for: Ctrl-C ends it after so many calls.
LONG = Periods(0.0, 3600.0)
ENOUGH = 30


class Interrupted(Calls):
    """Presses Ctrl-C with a late call; that one and those after it are never answered."""

    made = 0

    async def __call__(self, caller, turn):
        self.made += 1
        if self.made == ENOUGH:
            signal.raise_signal(signal.SIGINT)
        if self.made >= ENOUGH:
            await asyncio.Event().wait()
        return await super().__call__(caller, turn)


@pytest.fixture
def servers(server):
    return Servers((str(server.address),), channels=2)


@pytest.fixture
def images(png):
    return [png(np.full((32, 32, 3), value, np.uint8)) for value in (1, 2, 3)]


def named(images):
    return {f"{number}.png": data for number, data in enumerate(images, 1)}


def encoded(images):
    return {name: EncodedImage(data) for name, data in named(images).items()}


def loaded(servers, dialect, requests, loads):
    """What a run found that was interrupted: its first load alone."""
    return run.put_on(lambda: Interrupted(servers, dialect, requests, 30.0), dialect.served, loads, LONG)


@pytest.mark.parametrize("protocol", ["trunkline", "open-inference"])
@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("images_per_call", [1, 2])
def test_every_form_of_call_is_served(servers, images, protocol, pixels, images_per_call):
    dialect = run.ask(servers, protocol, "tiny@1")
    assert dialect.served.reference == "tiny@1"
    assert dialect.served.artifact_id.startswith("ar1-")
    assert (dialect.served.decode, dialect.served.input_size) == ("exact", (32, 32))
    sent = pixels_of(named(images), dialect.served.input_size) if pixels else encoded(images)
    requests = run.build(servers, dialect, sent, images_per_call, 30.0)
    result = loaded(servers, dialect, requests, [ClosedLoop(3)])
    (point,) = result.points
    assert point.figures.errors == {}
    assert point.figures.images == images_per_call * point.figures.calls > 0
    assert 0 < point.figures.p50_ms <= point.figures.p95_ms <= point.figures.p99_ms <= point.figures.max_ms


def test_arrivals_are_served_and_nothing_overflows(servers, images):
    dialect = run.ask(servers, "trunkline", "")
    requests = run.build(servers, dialect, encoded(images), 1, 30.0)
    result = loaded(servers, dialect, requests, [OpenLoop(500)])
    (point,) = result.points
    assert point.figures.calls > 0
    assert (point.figures.errors, point.figures.overflow) == ({}, 0)


def test_a_bad_image_among_good_ones_is_counted_and_the_good_are_served(servers, images):
    dialect = run.ask(servers, "trunkline", "tiny")
    request = dialect.request([EncodedImage(images[0]), EncodedImage(b"no image")])
    result = loaded(servers, dialect, [request], [ClosedLoop(1)])
    (point,) = result.points
    assert set(point.figures.errors) == {"unsupported_image"}
    assert point.figures.images > 0 == point.figures.calls
    first = result.failures["unsupported_image"]
    assert (first.request, first.position) == (0, 1)
    assert report.bad_images(result.failures, ["a.png", "b.png"], 2) == {"unsupported_image": "b.png"}


def test_calls_that_the_server_refuses_are_counted_by_status(servers, images):
    dialect = run.ask(servers, "trunkline", "tiny")
    request = trunkline_dialect.request("gone@1", [EncodedImage(images[0])])
    result = loaded(servers, dialect, [request], [ClosedLoop(1)])
    (point,) = result.points
    assert set(point.figures.errors) == {"NOT_FOUND"}
    assert point.figures.p50_ms is None
    assert "no model 'gone'" in result.failures["NOT_FOUND"].details
    assert report.bad_images(result.failures, ["a.png"], 1) == {}


def test_a_request_that_is_too_large_says_what_to_do(servers, png):
    class Small(grpc.GenericRpcHandler):
        def service(self, _details):
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")

    from concurrent.futures import ThreadPoolExecutor

    dialect = run.ask(servers, "trunkline", "tiny")
    images = encoded([bytes(1000)])
    options = [("grpc.max_receive_message_length", 100)]
    small = grpc.server(ThreadPoolExecutor(1), handlers=[Small()], options=options)
    where = Servers((f"127.0.0.1:{small.add_insecure_port('127.0.0.1:0')}",))
    small.start()
    try:
        with pytest.raises(InvalidArgument, match=r"fewer --images-per-call.*max_message_bytes"):
            run.build(where, dialect, images, 1, 30.0)
        (point,) = loaded(where, dialect, [dialect.request(list(images.values()))], [ClosedLoop(1)]).points
        assert set(point.figures.errors) == {TOO_LARGE}
    finally:
        small.stop(None).wait()


def test_a_request_that_no_server_takes_is_refused_before_the_load(servers):
    dialect = run.ask(servers, "trunkline", "tiny")
    with pytest.raises(InvalidArgument, match=r"0 of 1 images.*: 1\.png: this looks like text"):
        run.build(servers, dialect, encoded([b"no image"]), 1, 30.0)


@pytest.mark.parametrize(
    ("protocol", "model", "words"),
    [
        ("trunkline", "gone", "no model 'gone'"),
        ("open-inference", "gone", "no model 'gone'"),
        ("open-inference", "", "--model"),
    ],
)
def test_a_model_that_is_not_there_is_named(servers, protocol, model, words):
    with pytest.raises(InvalidArgument, match=words):
        run.ask(servers, protocol, model)


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not answer: nobody listens there"):
        run.ask(Servers(("127.0.0.1:1",)), "trunkline", "")


def test_a_server_of_another_protocol_is_told_so(servers):
    with grpc.insecure_channel(servers.addresses[0]) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/other.Service/Call")(b"", timeout=30)
    assert "--protocol" in str(run.refusal("there", caught.value, tls=False))


def test_servers_that_differ_are_not_loaded_together(servers, monkeypatch):
    (address,) = servers.addresses
    two = Servers((address, address.replace("127.0.0.1", "localhost")))
    assert run.ask(two, "trunkline", "tiny").served.decode == "exact"
    real, modes = trunkline_dialect.ask, iter(["exact", "fast"])

    def ask(channel, model):
        found = real(channel, model)
        return dataclasses.replace(found, served=dataclasses.replace(found.served, decode=next(modes)))

    monkeypatch.setattr(trunkline_dialect, "ask", ask)
    with pytest.raises(FailedPrecondition, match=r"localhost.*fast"):
        run.ask(two, "trunkline", "tiny")


def test_an_interrupt_ends_the_run_and_what_was_measured_is_there(servers, images):
    dialect = run.ask(servers, "trunkline", "tiny")
    requests = run.build(servers, dialect, encoded(images), 1, 30.0)
    told = []
    result = run.put_on(
        lambda: Interrupted(servers, dialect, requests, 30.0),
        dialect.served,
        [ClosedLoop(1), ClosedLoop(2)],
        LONG,
        told=told.append,
    )
    assert not result.complete
    (point,) = result.points
    assert told == [point.load] == [ClosedLoop(1)]
    assert 0 < point.figures.calls < ENOUGH
    assert point.figures.errors == {}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_every_server_gets_a_channel(server):
    host, port = server.address.host, server.address.port
    addresses = (f"{host}:{port}", f"localhost:{port}", f"127.0.0.1:{port}")
    opened = []

    class Kept(Calls):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            opened.extend(self._channels)

    servers = Servers(addresses, channels=1)
    dialect = run.ask(servers, "trunkline", "tiny")
    run.put_on(lambda: Kept(servers, dialect, [b""], 30.0), dialect.served, [], LONG)
    assert len(opened) == 3


def test_an_answer_tells_how_many_were_served():
    reply = embedding_pb2.EmbedResponse(
        embeddings=common_pb2.Embeddings(count=3),
        errors=[common_pb2.ItemError(index=1, reason="empty_image")],
    )
    assert trunkline_dialect.answer(reply.SerializeToString()) == (2, "empty_image")
    reply = inference_pb2.ModelInferResponse()
    assert open_inference_dialect.answer(reply.SerializeToString()) == (0, "no output")
    reply.outputs.add(shape=[4, 48])
    assert open_inference_dialect.answer(reply.SerializeToString()) == (4, "OK")


class Described(grpc.GenericRpcHandler):
    """A server of the Open Inference Protocol that takes one datatype, and shows no configuration."""

    def __init__(self, datatype, shape):
        self._reply = inference_pb2.ModelMetadataResponse(name="m")
        self._reply.inputs.add(name="pictures", datatype=datatype, shape=shape)

    def service(self, details):
        if not details.method.endswith("/ModelMetadata"):
            return None
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: self._reply.SerializeToString())


@pytest.fixture
def described(request):
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Described(*request.param)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield Servers((f"127.0.0.1:{port}",))
    server.stop(None).wait()


@pytest.mark.parametrize("described", [("BYTES", [-1, 1])], indirect=True)
def test_a_foreign_server_gets_bytes_in_the_shape_that_it_wants(described):
    dialect = run.ask(described, "open-inference", "m@3")
    sent = inference_pb2.ModelInferRequest.FromString(
        dialect.request([EncodedImage(b"one"), EncodedImage(b"three")])
    )
    assert (sent.model_name, sent.model_version) == ("m", "3")
    (tensor,) = sent.inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("pictures", "BYTES", [2, 1])
    assert list(sent.raw_input_contents) == [b"\3\0\0\0one\5\0\0\0three"]


@pytest.mark.parametrize("described", [("UINT8", [-1, 2, 4, 3])], indirect=True)
def test_a_foreign_server_of_pixels_gets_pixels_and_is_not_sent_files(described, png):
    dialect = run.ask(described, "open-inference", "m")
    assert dialect.served.input_size == (2, 4)
    with pytest.raises(InvalidArgument, match="--pixels"):
        dialect.request([EncodedImage(b"one")])
    image = png(np.full((9, 9, 3), 7, np.uint8))
    sent = inference_pb2.ModelInferRequest.FromString(
        dialect.request(list(pixels_of(named([image, image]), (2, 4)).values()))
    )
    (tensor,) = sent.inputs
    assert (tensor.datatype, list(tensor.shape)) == ("UINT8", [2, 2, 4, 3])
    assert list(sent.raw_input_contents) == [bytes([7]) * (2 * 2 * 4 * 3)]


@pytest.mark.parametrize("described", [("FP32", [-1, 3, 4, 4])], indirect=True)
def test_a_foreign_model_of_floats_is_refused(described):
    dialect = run.ask(described, "open-inference", "m")
    with pytest.raises(InvalidArgument, match="takes FP32"):
        dialect.request([EncodedImage(b"one")])


def test_the_document_has_the_share_of_the_raw_ceiling(servers, images):
    dialect = run.ask(servers, "trunkline", "tiny")
    requests = run.build(servers, dialect, encoded(images), 1, 30.0)
    loads = [ClosedLoop(1), OpenLoop(50)]
    points = [loaded(servers, dialect, requests, [load]).points[0] for load in loads]
    result = Result(dialect.served, tuple(points), complete=True)
    best = Tried(ExecutionPlan(1, 2, 4), 100.0)
    found = report.document(result, Ceiling(best, (best,)))
    first, second = found["points"]
    assert (first["loop"], first["callers"], second["loop"], second["rate"]) == ("closed", 1, "open", 50)
    assert first["served_of_raw"] == pytest.approx(first["images_per_second"] / 100)
    assert first["images_per_second"] == pytest.approx(first["images"] / first["seconds"])
    assert found["raw"]["best"] == {"threads": 1, "runs": 2, "batch": 4, "images_per_second": 100.0}
    assert report.document(result, None)["points"][0]["served_of_raw"] is None
