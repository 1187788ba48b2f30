"""Vectors of one's own, through the client and a whole service in this process: made, stored, searched."""

from __future__ import annotations

import numpy as np
import pytest

import trunkline
from trunkline_service.server.in_process import InProcessChannel
from trunkline_service.settings import Settings
from trunkline_service.workspace import Workspace

IDS = [f"v{index:06d}" for index in range(20)]
X = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)


@pytest.fixture
def client(tmp_path, publish_tiny):
    publish_tiny(tmp_path / "models")
    settings = Settings(
        models=str(tmp_path / "models"), data=str(tmp_path / "data"), default_model="tiny", device="cpu"
    )
    with trunkline.Client._over([InProcessChannel(Workspace(settings))], retries=0) as opened:
        yield opened


@pytest.mark.parametrize("space", ["mine", "declared:mine"])
def test_the_natural_calls_work(client, space):
    info = client.create_collection("vecs", space_id="mine", dim=8)
    assert (info.space_id, info.decode, info.pretrained) == ("declared:mine", "unknown", False)
    metadata = [{"price": index / 2, "camera": None if index % 2 else "x"} for index in range(20)]
    version = client.upsert("vecs", IDS, X, space_id=space, metadata=metadata)
    found = client.search("vecs", vectors=X[:3], space_id=space, k=2, columns=["price", "camera"])
    assert [ids[0] for ids in found.ids] == IDS[:3]
    assert [held[0] for held in found.metadata] == metadata[:3]
    assert found.version == version
    assert client.search("vecs", vectors=X[:0], space_id=space).version == version


def test_a_decode_mode_that_is_told_is_checked(client):
    client.create_collection("vecs", space_id="mine", dim=8)
    with pytest.raises(trunkline.FailedPrecondition, match="decode mode 'unknown'"):
        client.upsert("vecs", IDS, X, space_id="mine", decode="exact")
    with pytest.raises(trunkline.SpaceMismatch):
        client.upsert("vecs", IDS, X, space_id="other")


def test_of_a_models_collection_it_is_the_models(client):
    info = client.create_collection("shades", decode="fast")
    client.upsert("shades", ["a"], np.ones((1, info.dim)), space_id=info.space_id)
    assert client.rows("shades", ["a"]).decodes == ["fast"]
    assert info.pretrained == client.models()[0].pretrained
