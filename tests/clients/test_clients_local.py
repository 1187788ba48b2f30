"""`trunkline.open`: found by entry point, the same surface, and errors that say what to install."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

import trunkline
from trunkline import local
from trunkline_protos.v1 import common_pb2, embedding_pb2, models_pb2


class Entry:
    """An entry point that gives, or raises, what it is told."""

    def __init__(self, target=None, error: BaseException | None = None) -> None:
        self.target, self.error = target, error

    def load(self):
        if self.error is not None:
            raise self.error
        return self.target


def install(monkeypatch, *entries: Entry) -> None:
    def found(*, group: str, name: str) -> tuple[Entry, ...]:
        assert (group, name) == ("trunkline.local", "in_process")
        return entries

    monkeypatch.setattr(local, "entry_points", found)


class Refused(grpc.RpcError):
    """As much of a gRPC error as a service in-process has to give."""

    def code(self):
        return grpc.StatusCode.FAILED_PRECONDITION

    def details(self):
        return "two spaces"

    def trailing_metadata(self):
        return (("trunkline-reason", "space_mismatch"),)


class InProcess:
    """As much of a channel as the client asks for; messages are handed over as they are."""

    def __init__(self, **settings) -> None:
        self.settings = settings
        self.closed = False
        self.asked = threading.Event()
        self.pool = ThreadPoolExecutor(2)

    def unary_unary(self, method, request_serializer=None, response_deserializer=None):
        handler = {
            "/trunkline.v1.Models/GetServerInfo": lambda _: models_pb2.ServerInfo(
                max_message_bytes=10**6, max_images_per_request=3
            ),
            "/trunkline.v1.Embedding/Embed": self.embed,
        }.get(method)

        def future(request, timeout=None):
            answer = self.pool.submit(handler, request)
            self.asked.set()
            return answer

        return SimpleNamespace(future=future)

    def unary_stream(self, method, request_serializer=None, response_deserializer=None):
        return None

    def embed(self, request):
        if request.expect_space_id:
            raise Refused
        data = b"".join(np.full(2, len(i.encoded), "<f4").tobytes() for i in request.images)
        return embedding_pb2.EmbedResponse(
            embeddings=common_pb2.Embeddings(count=len(request.images), dim=2, data=data),
            model=common_pb2.ModelRef(name="local", version=1, space_id="sp1-l", dim=2),
        )

    def close(self):
        self.closed = True
        self.pool.shutdown()


@pytest.fixture
def opened(monkeypatch):
    made: list[InProcess] = []

    def open_channel(**settings):
        made.append(InProcess(**settings))
        return made[-1]

    install(monkeypatch, Entry(open_channel))
    return made


def test_the_service_in_process_is_a_client_like_any(opened, tmp_path):
    with trunkline.open(tmp_path / "models", "data", device="cpu") as client:
        assert isinstance(client, trunkline.Client)
        result = client.embed([b"x" * i for i in range(7)])
    assert result.vectors[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert result.space_id == "sp1-l"
    assert opened[0].settings == {"models": str(tmp_path / "models"), "data": "data", "device": "cpu"}
    assert opened[0].closed


def test_its_errors_are_the_same(opened):
    with trunkline.open() as client, pytest.raises(trunkline.SpaceMismatch, match="two spaces"):
        client.embed(b"x", expect_space="sp1-other")


def test_without_the_service_the_message_says_what_to_install(monkeypatch):
    install(monkeypatch)
    with pytest.raises(trunkline.MissingExtra, match=r"pip install 'trunkline\[server\]'"):
        trunkline.open()


@pytest.mark.parametrize("while_loading", [True, False])
def test_a_missing_package_is_named_with_the_remedy(monkeypatch, while_loading):
    missing = ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")

    def broken(**_):
        raise missing

    install(monkeypatch, Entry(error=missing) if while_loading else Entry(broken))
    with pytest.raises(
        trunkline.MissingExtra, match=r"'onnxruntime' is missing.*trunkline\[server\]"
    ) as caught:
        trunkline.open()
    assert caught.value.__cause__ is missing


class ServiceError(Exception):
    def __init__(self, reason: str) -> None:
        self.reason, self.message = reason, "what to do"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("bad_setting", trunkline.InvalidRequest),
        ("missing_extra", trunkline.MissingExtra),
        ("bad_model_file", trunkline.FailedPrecondition),
    ],
)
def test_the_services_own_errors_are_translated(monkeypatch, reason, kind):
    def broken(**_):
        raise ServiceError(reason)

    install(monkeypatch, Entry(broken))
    with pytest.raises(kind, match="what to do") as caught:
        trunkline.open()
    assert caught.value.reason == reason


def test_a_defect_of_the_service_passes_through(monkeypatch):
    install(monkeypatch, Entry(lambda **_: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        trunkline.open()


def test_closing_it_ends_calls_that_have_not_begun(opened):
    client = trunkline.open(threads=1)
    channel = opened[0]
    held, caught = threading.Event(), []
    for _ in range(2):
        channel.pool.submit(held.wait, 30)

    def ask() -> None:
        try:
            client.server_info()
        except trunkline.TrunklineError as error:
            caught.append(type(error))

    thread = threading.Thread(target=ask)
    asked = channel.asked
    thread.start()
    assert asked.wait(30)
    client._calls._stop.cancel()
    thread.join()
    held.set()
    client.close()
    assert caught == [trunkline.Cancelled]
