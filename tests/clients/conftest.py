"""A small real server on loopback, and one way to call it from both clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import hypothesis
import numpy as np
import pytest
from tests.clients.fake import Fake, Refusal, vector_of
from tests.clients.fake_heads import Heads
from tests.clients.fake_search import Search
from tests.clients.fake_services import Services

import trunkline
from trunkline._options import Rim
from trunkline_protos.v1 import (
    collections_pb2_grpc,
    embedding_pb2_grpc,
    heads_pb2_grpc,
    models_pb2_grpc,
    search_pb2_grpc,
)

ITERATORS = ("embed_iter", "scan")
# Examples share the machine with other work: a slow one is no failure.
hypothesis.settings.register_profile("clients", deadline=None)
hypothesis.settings.load_profile("clients")


def start(fake: Fake, credentials: grpc.ServerCredentials | None = None) -> grpc.Server:
    """A server of the fake on a free port; its real message limit is the one that it reports."""
    server = grpc.server(
        ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", fake.max_message_bytes)]
    )
    services = Services(fake)
    embedding_pb2_grpc.add_EmbeddingServicer_to_server(services, server)
    models_pb2_grpc.add_ModelsServicer_to_server(services, server)
    collections_pb2_grpc.add_CollectionsServicer_to_server(services, server)
    heads_pb2_grpc.add_HeadsServicer_to_server(Heads(fake), server)
    search_pb2_grpc.add_SearchServicer_to_server(Search(fake), server)
    where = "127.0.0.1:0"
    port = server.add_secure_port(where, credentials) if credentials else server.add_insecure_port(where)
    fake.target = f"127.0.0.1:{port}"
    server.start()
    return server


@pytest.fixture
def serve() -> Iterator[Callable[..., Fake]]:
    """``serve(max_message_bytes=..., ...)`` starts a server and gives its `Fake`."""
    servers = []

    def begin(credentials: grpc.ServerCredentials | None = None, **settings: Any) -> Fake:
        fake = Fake(**settings)
        servers.append((start(fake, credentials), fake))
        return fake

    yield begin
    for server, fake in servers:
        for gate in fake.gates.values():
            gate.set()
        server.stop(None).wait()


@pytest.fixture
def fake(serve: Callable[..., Fake]) -> Fake:
    return serve()


class FakeTime:
    """A clock that pauses alone move, and no chance: the jitter is always half of its ceiling."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    @property
    def rim(self) -> Rim:
        return Rim(clock=lambda: self.now, random=lambda: 0.5, wait=self._wait, sleep=self._sleep)

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.now += seconds
        return event.is_set()

    async def _sleep(self, seconds: float) -> None:
        self._wait(threading.Event(), seconds)


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


class Caller:
    """Calls a method of one of the two clients; results and errors must not depend on which."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(
        self, fake: Fake, method: str, *args: Any, client: dict[str, Any] | None = None, **named: Any
    ):
        """The result of a method; of an iterator, the list of its results, the first ``take`` of them.

        ``then`` is called at the end, also after an error, while the client is still open.
        """
        take, then = named.pop("take", None), named.pop("then", lambda: None)
        options = {"_rim": FakeTime().rim} | (client or {})
        if self.kind == "sync":
            return self._sync(fake.target, options, method, take, then, args, named)
        return asyncio.run(self._async(fake.target, options, method, take, then, args, named))

    def _sync(self, target, options, method, take, then, args, named):
        with trunkline.Client(target, **options) as client, contextlib.ExitStack() as stack:
            stack.callback(then)
            answer = getattr(client, method)(*args, **named)
            if method not in ITERATORS:
                return answer
            with contextlib.closing(answer):
                return list(itertools.islice(answer, take))

    async def _async(self, target, options, method, take, then, args, named):
        async with trunkline.AsyncClient(target, **options) as client, contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, then)
            answer = getattr(client, method)(*args, **named)
            if method not in ITERATORS:
                return await answer
            parts: list[Any] = []
            async with contextlib.aclosing(answer):
                while take is None or len(parts) < take:
                    try:
                        parts.append(await anext(answer))
                    except StopAsyncIteration:
                        break
            return parts


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Caller:
    """``call(fake, "embed", images, client={...options})``, once for each client."""
    return Caller(request.param)


@pytest.fixture
def refusal() -> type[Refusal]:
    """``refusal(code, details, trailing)``, to be put into ``fake.refusals``."""
    return Refusal


@pytest.fixture
def expected() -> Callable[[bytes], np.ndarray[Any, Any]]:
    return vector_of
