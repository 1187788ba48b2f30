"""A server with the tiny model, its clients, and a collection of two classes."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

import trunkline
from trunkline_protos.v1 import heads_pb2_grpc
from trunkline_service.server.app import Server
from trunkline_service.settings import Settings

DIM = 48


def vectors(count, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    rows[1::2] += 3.0
    return rows


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
    """A client of the server, and one of the same folders in this process, with a collection of two classes."""
    if request.param == "remote":
        opened = trunkline.Client(str(server.address), retries=0)
    else:
        opened = trunkline.open(
            models=server.settings.models, data=server.settings.data, default_model="tiny"
        )
    with opened as client:
        client.create_collection("shades", "tiny")
        info = client.collection("shades")
        ids = [f"r{index}" for index in range(20)]
        client.upsert("shades", ids, vectors(20), space_id=info.space_id, labels=["dark", "light"] * 10)
        yield client


@pytest.fixture
def space(client):
    return client.collection("shades").space_id


class heads_channel:  # noqa: N801 - a context manager
    """The bare stub of the service."""

    def __init__(self, server):
        self._channel = grpc.insecure_channel(str(server.address))

    def __enter__(self):
        return heads_pb2_grpc.HeadsStub(self._channel)

    def __exit__(self, *_error):
        self._channel.close()
