"""Health is earned: not before every bucket is warm, not after a stage died, not while draining."""

from __future__ import annotations

import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trunkline_protos.v1 import embedding_pb2, embedding_pb2_grpc
from trunkline_service.server import app
from trunkline_service.server.app import Server
from trunkline_service.settings import Settings

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server(tmp_path, publish_tiny, monkeypatch):
    monkeypatch.setattr(app, "_HEALTH_EVERY_S", 0.01)
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
    yield built
    built.stop()


@pytest.fixture
def statuses(server):
    """The statuses as they change, from a Watch stream."""
    with grpc.insecure_channel(str(server.address)) as channel:
        stream = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), wait_for_ready=True
        )
        yield (reply.status for reply in stream)
        stream.cancel()


def becomes(statuses, wanted):
    """Reads the stream until the status is the one; a test that waits in vain runs into its time limit."""
    return any(status == wanted for status in statuses)


def embed(server):
    with grpc.insecure_channel(str(server.address)) as channel:
        stub = embedding_pb2_grpc.EmbeddingStub(channel)
        return stub.Embed(embedding_pb2.EmbedRequest(), wait_for_ready=True, timeout=30)


def test_a_server_that_warms_is_not_ready_and_says_why(server, statuses, monkeypatch):
    warm, real = threading.Event(), server.workspace.warm

    def slow(*arguments):
        warm.wait()
        return real(*arguments)

    monkeypatch.setattr(server.workspace, "warm", slow)
    starter = threading.Thread(target=server.start)
    starter.start()
    assert next(statuses) == NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        embed(server)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "starting" in caught.value.details()
    warm.set()
    assert next(statuses) == SERVING
    starter.join()
    assert embed(server).model.name == "tiny"


def test_a_stage_in_trouble_turns_health_off_and_recovery_turns_it_on(server, statuses, monkeypatch):
    server.start()
    assert becomes(statuses, SERVING)
    monkeypatch.setattr(server.workspace.engine, "trouble", lambda: "infer tiny@1 died")
    assert next(statuses) == NOT_SERVING
    monkeypatch.undo()
    assert next(statuses) == SERVING


def test_draining_turns_health_off_for_good(server, statuses):
    server.start()
    assert becomes(statuses, SERVING)
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    assert next(statuses) == NOT_SERVING
    stopper.join()


def test_interrupted_while_models_load_it_never_becomes_ready(server, monkeypatch):
    real = server.workspace.warm

    def interrupted(stopping):
        server.interrupt()
        return real(stopping)

    monkeypatch.setattr(server.workspace, "warm", interrupted)
    server.start()
    with pytest.raises(grpc.RpcError) as caught:
        embed(server)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_long_name_in_an_error_stays_the_callers_error(server):
    server.start()
    with grpc.insecure_channel(str(server.address)) as channel:
        stub = embedding_pb2_grpc.EmbeddingStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Embed(embedding_pb2.EmbedRequest(model="x" * 100_000))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_bytes_that_are_no_message_are_the_callers_error(server):
    server.start()
    with grpc.insecure_channel(str(server.address)) as channel:
        call = channel.unary_unary("/trunkline.v1.Embedding/Embed")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
