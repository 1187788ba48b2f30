"""Open Inference Protocol v2 of a server: what comes back, its errors, what is ready, and its numbers."""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.server.open_inference.messages import SIZE, encoded, request, solid, text

from trunkline_protos.open_inference import inference_pb2, inference_pb2_grpc, model_config_pb2
from trunkline_protos.v1 import embedding_pb2, embedding_pb2_grpc
from trunkline_service import errors
from trunkline_service.server.app import Server
from trunkline_service.server.open_inference.answers import failure_of
from trunkline_service.server.open_inference.servicer import InferenceServicer
from trunkline_service.settings import Settings


def test_many_bad_images_are_all_named_and_what_is_ours_comes_after():
    bad = {index: errors.CorruptImage(f"reason {index}") for index in range(8)}
    failure = failure_of({**bad, 9: errors.InternalError()}, 10)
    assert type(failure) is errors.CorruptImage
    assert failure.message.startswith("8 of 10 images")
    assert "image 4: reason 4" in failure.message
    assert failure.message.endswith("and at 5, 6, 7")
    expired = errors.DeadlineExpired("late")
    assert failure_of({3: errors.InternalError(), 1: expired}, 4) is expired


def make_server(home):
    return Server(
        Settings(
            models=str(home / "models"),
            data=str(home / "data"),
            default_model="tiny",
            listen="127.0.0.1:0",
            threads=1,
            drain_s=10,
            max_images_per_request=5,
        )
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory, publish_tiny):
    home = tmp_path_factory.mktemp("server")
    publish_tiny(home / "models")
    publish_tiny(home / "models", name="large", scale=1e5, space_id="sp1-" + "e" * 32)
    built = make_server(home)
    try:
        built.start()
        yield built
    finally:
        built.stop()


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(str(server.address)) as opened:
        yield opened


@pytest.fixture(scope="module")
def stub(channel):
    return inference_pb2_grpc.GRPCInferenceServiceStub(channel)


def refused(call, message):
    with pytest.raises(grpc.RpcError) as caught:
        call(message)
    return caught.value


def test_the_same_vectors_as_our_own_protocol_gives(channel, stub, png):
    images = [png(solid(10)), png(solid(200, 50)), png(solid(3), "BMP")]
    ours = embedding_pb2_grpc.EmbeddingStub(channel).Embed(
        embedding_pb2.EmbedRequest(images=[{"encoded": image} for image in images])
    )
    reply = stub.ModelInfer(encoded(*images, id="seven"))
    assert (reply.model_name, reply.model_version, reply.id) == ("tiny", "1", "seven")
    (output,) = reply.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("embedding", "FP32", [3, 48])
    assert list(reply.raw_output_contents) == [ours.embeddings.data]
    assert {name: value.string_param for name, value in reply.parameters.items()} == {
        "space_id": ours.model.space_id,
        "artifact_id": ours.model.artifact_id,
        "decode": ours.model.decode,
    }


def test_pixels_and_float16(stub, tiny_vector_of):
    pixels = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    message = request("UINT8", pixels.shape, pixels.tobytes(), model_name="tiny", model_version="1")
    message.parameters["output_datatype"].string_param = "FP16"
    message.outputs.add(name="embedding")
    reply = stub.ModelInfer(message)
    assert reply.outputs[0].datatype == "FP16"
    vectors = np.frombuffer(reply.raw_output_contents[0], "<f2").reshape(2, 48)
    np.testing.assert_allclose(vectors, [tiny_vector_of(image) for image in pixels], rtol=2e-3)


def test_no_images_are_no_vectors(stub):
    reply = stub.ModelInfer(encoded())
    assert list(reply.outputs[0].shape) == [0, 48]
    assert list(reply.raw_output_contents) == [b""]


def test_a_bad_image_fails_the_call_by_its_position(stub, png):
    failure = refused(stub.ModelInfer, encoded(png(solid(1)), b"a letter", png(solid(2)), b"another"))
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "2 of 4 images" in failure.details()
    assert "image 1: " in failure.details()
    assert "image 3: " in failure.details()
    assert ("trunkline-reason", "unsupported_image") in failure.trailing_metadata()
    failure = refused(stub.ModelInfer, encoded(b"a letter", b""))
    assert ("trunkline-reason", "invalid_image") in failure.trailing_metadata()


def with_parameter(message, name, value):
    message.parameters[name].string_param = value
    return message


def test_errors_are_those_of_the_table(stub, png):
    image = png(solid(1))
    failure = refused(stub.ModelInfer, encoded(image, model_name="tinyy"))
    assert failure.code() is grpc.StatusCode.NOT_FOUND
    failure = refused(stub.ModelInfer, with_parameter(encoded(image), "expect_space_id", "sp1-other"))
    assert failure.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "sp1-other" in failure.details()
    large = with_parameter(encoded(image, model_name="large"), "output_datatype", "FP16")
    assert "65504" in refused(stub.ModelInfer, large).details()
    late = encoded(image)
    late.parameters["timeout"].int64_param = 1
    assert refused(stub.ModelInfer, late).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    failure = refused(stub.ModelInfer, encoded(*[image] * 6))
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "at most 5" in failure.details()
    other = encoded(image)
    other.outputs.add(name="logits")
    assert "'embedding'" in refused(stub.ModelInfer, other).details()
    classes = encoded(image)
    classes.outputs.add(name="embedding").parameters["classification"].int64_param = 3
    assert "classification" in refused(stub.ModelInfer, classes).details()


def test_calls_are_counted(server, stub):
    def count():
        labels = {"method": "/inference.GRPCInferenceService/ModelInfer", "code": "OK"}
        return server.metrics.registry.get_sample_value("trunkline_calls_total", labels) or 0

    before = count()
    stub.ModelInfer(encoded())
    assert count() == before + 1


def test_what_a_model_is(server, stub):
    asked = {"name": "tiny", "version": "1"}
    metadata = stub.ModelMetadata(inference_pb2.ModelMetadataRequest(**asked))
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("tiny", ["1"], "onnxruntime_onnx")
    (image,), (embedding,) = metadata.inputs, metadata.outputs
    assert (image.name, image.datatype, list(image.shape)) == ("image", "UINT8", [-1, SIZE, SIZE, 3])
    assert (embedding.name, embedding.datatype, list(embedding.shape)) == ("embedding", "FP32", [-1, 48])
    config = stub.ModelConfig(inference_pb2.ModelConfigRequest(**asked)).config
    assert (config.name, config.max_batch_size) == ("tiny", 5)
    assert config.input[0].data_type == model_config_pb2.TYPE_UINT8
    assert config.input[0].format == model_config_pb2.ModelInput.FORMAT_NHWC
    assert (list(config.input[0].dims), list(config.output[0].dims)) == ([SIZE, SIZE, 3], [48])
    card = server.workspace.repository.resolve("tiny").card
    assert config.parameters["space_id"].string_value == card.space_id
    assert config.parameters["input_datatypes"].string_value == "BYTES,UINT8"
    # No name is the default's.
    assert stub.ModelMetadata(inference_pb2.ModelMetadataRequest()) == metadata
    failure = refused(stub.ModelMetadata, inference_pb2.ModelMetadataRequest(name="tiny", version="2"))
    assert failure.code() is grpc.StatusCode.NOT_FOUND


def test_a_model_is_ready_when_it_is_loaded(server, stub, publish_tiny, png):
    def ready(name, version=""):
        return stub.ModelReady(inference_pb2.ModelReadyRequest(name=name, version=version)).ready

    def index(only_ready):
        reply = stub.RepositoryIndex(inference_pb2.RepositoryIndexRequest(ready=only_ready))
        return {(model.name, model.version): model.state for model in reply.models}

    assert (ready("tiny"), ready("tiny", "1"), ready("tiny", "2"), ready("nothing")) == (
        True,
        True,
        False,
        False,
    )
    publish_tiny(Path(server.settings.models), name="late", scale=3.0, space_id="sp1-" + "f" * 32)
    assert (ready("late"), ready("late", "1")) == (False, False)
    assert index(False)["late", "1"] == "UNAVAILABLE"
    assert ("late", "1") not in index(True)
    stub.ModelInfer(encoded(png(solid(1)), model_name="late"))
    assert (ready("late"), ready("late", "1")) == (True, True)
    assert index(True)["late", "1"] == "READY"
    failure = refused(stub.RepositoryIndex, inference_pb2.RepositoryIndexRequest(repository_name="other"))
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_server_that_warms_lives_and_is_not_ready(tmp_path, publish_tiny, monkeypatch):
    publish_tiny(tmp_path / "models")
    server = make_server(tmp_path)
    warm, real = threading.Event(), server.workspace.warm

    def slow(*arguments):
        warm.wait()
        return real(*arguments)

    monkeypatch.setattr(server.workspace, "warm", slow)
    starter = threading.Thread(target=server.start)
    starter.start()
    try:
        with grpc.insecure_channel(str(server.address)) as channel:
            stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ServerLive(inference_pb2.ServerLiveRequest(), wait_for_ready=True).live
            assert not stub.ServerReady(inference_pb2.ServerReadyRequest()).ready
            assert refused(stub.ModelInfer, encoded()).code() is grpc.StatusCode.UNAVAILABLE
            warm.set()
            starter.join()
            assert stub.ServerReady(inference_pb2.ServerReadyRequest()).ready
            monkeypatch.setattr(server.workspace.engine, "trouble", lambda: "infer tiny@1 died")
            assert not stub.ServerReady(inference_pb2.ServerReadyRequest()).ready
            assert not stub.ModelReady(inference_pb2.ModelReadyRequest(name="tiny")).ready
    finally:
        warm.set()
        starter.join()
        server.stop()


class Call:
    """A call's context, with seconds left."""

    def __init__(self, seconds):
        self.seconds = seconds

    def time_remaining(self):
        return self.seconds


@pytest.mark.parametrize(("deadline_s", "waits_s"), [(None, 30), (90, 30), (10, 10)])
def test_lane_and_the_nearer_of_two_deadlines_reach_the_engine(server, monkeypatch, png, deadline_s, waits_s):
    real, callers = server.workspace.embed, []

    def watched(images, model, caller, expect_space):
        callers.append(caller)
        return real(images, model)

    monkeypatch.setattr(server.workspace, "embed", watched)
    servicer = InferenceServicer(server.workspace, lambda: True)
    for parameters in (
        {"lane": text("bulk"), "timeout": inference_pb2.InferParameter(int64_param=30 * 10**6)},
        {},
    ):
        servicer.ModelInfer(encoded(png(solid(1)), parameters=parameters), Call(deadline_s))
    assert [(caller.lane, caller.timeout_s) for caller in callers] == [
        ("bulk", waits_s),
        ("interactive", deadline_s),
    ]


def test_a_server_that_drains_is_not_ready(server):
    servicer = InferenceServicer(server.workspace, lambda: False)
    assert not servicer.ServerReady(inference_pb2.ServerReadyRequest(), None).ready
    assert not servicer.ModelReady(inference_pb2.ModelReadyRequest(name="tiny"), None).ready


def test_what_is_not_served_is_unimplemented(channel):
    for method in ("ModelStatistics", "RepositoryModelLoad", "SystemSharedMemoryStatus"):
        failure = refused(channel.unary_unary(f"/inference.GRPCInferenceService/{method}"), b"")
        assert failure.code() is grpc.StatusCode.UNIMPLEMENTED
