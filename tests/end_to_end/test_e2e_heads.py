"""Heads on real servers: moved under load, fitted and cancelled, shared by servers, in an object store."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import trunkline
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.network import Linear, Network
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.models.repository import ModelRepository

DIM = 48
VERSIONS = 5
CLASSES = tuple(f"version-{number}" for number in range(VERSIONS + 1))
PATIENCE_S = 60


def saying(number: int, space_id: str) -> FittedHead:
    """A head that answers ``version-N`` whatever it is asked."""
    bias = np.zeros(len(CLASSES), np.float32)
    bias[number] = 20.0
    return FittedHead(
        kind="pretrained",
        task="single-label",
        network=Network(Linear(np.zeros((len(CLASSES), DIM), np.float32), bias), "softmax"),
        classes=CLASSES,
        space_id=space_id,
        model="tiny@1",
        collection="",
        collection_version=0,
        training_hash="a" * 64,
        rows=0,
        hyper_parameters={},
        temperature=1.0,
        evaluation=None,
        notes=(),
    )


@pytest.fixture
def home(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    return tmp_path


@pytest.fixture
def space(home) -> str:
    return ModelRepository(home / "models").resolve("tiny").card.space_id


@pytest.fixture
def five(home, space) -> HeadRegistry:
    """Versions 1 to 5 of ``h`` in the data folder, each of which says its number."""
    registry = HeadRegistry(home / "data")
    for number in range(1, VERSIONS + 1):
        registry.save(saying(number, space), "h")
    return registry


def serve(start_server, home, data="data", **options):
    return start_server(home, "--models", "models", "--data", data, "--default-model", "tiny", **options)


def test_a_head_is_moved_a_hundred_times_under_load(home, five, space, start_server):
    """No call fails, and each reply names the version whose weights made it."""
    stop = threading.Event()
    pixels = np.full((32, 32, 3), 9, np.uint8)
    vectors = np.zeros((3, DIM), np.float32)
    with serve(start_server, home) as server, trunkline.Client(server.address, retries=0) as client:

        def ask(number: int) -> list[int]:
            seen = []
            while not stop.is_set():
                if number % 2:
                    found = client.predict(head="h", vectors=vectors, space_id=space)
                else:
                    # Three heads and an image.
                    several = client.predict([pixels], heads=["h", "h@2", "h@3"])
                    assert several["h@2"].labels == ["version-2"]
                    found = several["h"]
                assert set(found.labels) == {f"version-{found.head.version}"}
                seen.append(found.head.version)
            return seen

        def move() -> int:
            """Promotes and rolls back by turns: over the socket, and from this process, on the same folder."""
            done = 0
            for turn, version in zip(range(50), itertools.cycle((1, 4, 2, 3)), strict=False):
                promote, back = (
                    (client.promote_head, client.rollback_head) if turn % 2 else (five.promote, five.rollback)
                )
                assert promote("h", version).version == version
                assert back("h").version == VERSIONS
                done += 2
            return done

        with ThreadPoolExecutor(5) as pool:
            asking = [pool.submit(ask, number) for number in range(4)]
            try:
                assert pool.submit(move).result() == 100
            finally:
                stop.set()
            seen = [version for found in asking for version in found.result()]
        assert client.predict(head="h", vectors=vectors, space_id=space).labels == ["version-5"] * 3
        assert five.pointer("h").serving == VERSIONS
    assert len(seen) > 100
    assert {1, 2, 3, 4, 5} >= set(seen) > {VERSIONS}


def test_two_servers_on_one_folder_see_each_others_moves(home, five, space, start_server, tmp_path_factory):
    other_home = tmp_path_factory.mktemp("other")
    (other_home / "models").symlink_to(home / "models")
    vectors = np.zeros((1, DIM), np.float32)
    with (
        serve(start_server, home) as one,
        serve(start_server, other_home, data=str(home / "data")) as two,
        trunkline.Client(one.address) as here,
        trunkline.Client(two.address) as there,
    ):
        for mover, reader in ((here, there), (there, here)):
            for version in (1, 3):
                mover.promote_head("h", version)
                assert reader.predict(head="h", vectors=vectors, space_id=space).labels == [
                    f"version-{version}"
                ]
        info = here.create_collection("shades", "tiny")
        rows = np.random.default_rng(0).normal(size=(20, DIM)).astype(np.float32)
        ids = [f"r{index}" for index in range(20)]
        here.upsert("shades", ids, rows, space_id=info.space_id, labels=["a", "b"] * 10)
        # Both fit the same head at once: versions of their own, the newer of which serves at both.
        with ThreadPoolExecutor(2) as pool:
            fits = [pool.submit(client.fit_head, "shades", "h", "centroid") for client in (here, there)]
            assert sorted(fit.result().version for fit in fits) == [6, 7]
        assert here.head("h") == there.head("h")
        assert here.head("h").serving == 7


def test_a_fit_that_is_cancelled_midway_leaves_what_serves(home, five, space, start_server):
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(5000, DIM)), [f"c{k}" for k in rng.integers(0, 50, 5000)]
    with serve(start_server, home) as server, trunkline.Client(server.address, retries=0) as client:
        info = client.create_collection("large", "tiny")
        client.upsert("large", map(str, range(len(rows))), rows, space_id=info.space_id, labels=labels)

        def stop(stage: str, share: float) -> None:
            if stage == "fitting" and share > 0:
                assert share < 1
                raise KeyError("enough")

        with pytest.raises(KeyError, match="enough"):
            client.fit_head("large", "h", progress=stop, precision="float64")
        # Whoever comes next is let in as soon as the fit has noticed.
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                head = client.fit_head("large", "other", "centroid")
                break
            except trunkline.Overloaded:
                assert time.monotonic() < deadline
        assert head.version == 1
        assert client.head("h").versions == (1, 2, 3, 4, 5)
        vectors = np.zeros((1, DIM), np.float32)
        assert client.predict(head="h", vectors=vectors, space_id=space).labels == ["version-5"]


def test_heads_in_an_object_store(home, space, start_server, s3_bucket, s3_environment):
    data = f"{s3_bucket}/data"
    elsewhere = HeadRegistry(data)
    vectors = np.random.default_rng(0).normal(size=(20, DIM)).astype(np.float32)
    with (
        serve(start_server, home, data=data, environment=s3_environment) as server,
        trunkline.Client(server.address) as client,
    ):
        info = client.create_collection("shades", "tiny")
        ids = [f"r{index}" for index in range(20)]
        client.upsert("shades", ids, vectors, space_id=info.space_id, labels=["a", "b"] * 10)
        assert client.fit_head("shades", "h", "centroid").version == 1
        assert client.fit_head("shades", "h", "centroid").version == 2
        assert client.predict(head="h", vectors=vectors, space_id=space).head.version == 2
        elsewhere.rollback("h")
        # The server asks the store again within a second.
        deadline = time.monotonic() + PATIENCE_S
        while client.predict(head="h", vectors=vectors[:1], space_id=space).head.version != 1:
            assert time.monotonic() < deadline
        assert client.promote_head("h", 2).serving == 2
        assert client.predict(head="h", vectors=vectors, space_id=space).head.version == 2
        assert elsewhere.save(saying(3, space), "h").version == 3
        assert client.head("h@3").kind == "pretrained"
