"""The Heads service predicts, over a socket and in this process: every wish, and what is refused."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from tests.server.heads.conftest import heads_channel, vectors

import trunkline
from trunkline_protos.v1 import heads_pb2
from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.serving.stacked import StackedHeads
from trunkline_service.server import head_converters
from trunkline_service.server.servicers.heads import HeadsServicer


def solid(shade):
    return np.full((32, 32, 3), shade, np.uint8)


def test_a_head_is_fitted_and_predicts(client, space):
    steps = []
    head = client.fit_head("shades", "h", folds=3, progress=lambda *step: steps.append(step))
    assert (str(head), head.kind, head.task, head.classes) == (
        "h@1",
        "logistic",
        "single-label",
        ("dark", "light"),
    )
    assert (head.metric, head.score, head.accuracy, head.serving) == ("accuracy", 1.0, 1.0, 1)
    assert head.card["hyper_parameters"]["folds"] == 3
    assert list(dict.fromkeys(stage for stage, _ in steps)) == ["reading", "fitting", "reporting", "saving"]
    assert client.heads() == [head] == [client.head("h")]
    found = client.predict(head="h", vectors=vectors(6), space_id=space)
    assert found.labels == ["dark", "light"] * 3
    assert str(found.head) == "h@1"
    assert found.distances.shape == (6,)
    by_ids = client.predict(head="h", ids=["r1", "r0"], collection="shades")
    assert by_ids.labels == ["light", "dark"]
    with pytest.raises(trunkline.NotFound, match="r99"):
        client.predict(head="h", ids=["r99"], collection="shades")


def test_every_wish_of_a_prediction(client, space):
    client.fit_head("shades", "h", "centroid")
    client.fit_head("shades", "odd", "anomaly")
    images = [solid(10), b"no image", solid(240)]
    found = client.predict(
        images, heads=["h", "odd"], top_k=1, unknown=True, with_vectors=True, neighbours="shades", k=2
    )
    whole = client.predict(images, head="h")
    for result in found.values():
        assert [failure.index for failure in result.errors] == [1]
        # Solid pictures are nothing like what was learned.
        assert result.unknown == ["far", None, "far"]
        assert result.labels == [None] * 3
        np.testing.assert_array_equal(result.vectors[0], 10)
        assert [len(ids) for ids in result.neighbours.ids] == [2, 0, 2]
    assert found["h"].top == [(label,) if label else () for label in whole.labels]
    np.testing.assert_allclose(found["h"].probabilities[:, 0], whole.probabilities.max(axis=1))
    assert found["odd"].scores.shape == (3,)
    likely = client.predict(
        images, head="h", unknown=trunkline.Unknown(min_probability=0.0, max_distance=1e9)
    )
    assert likely.unknown == [None] * 3
    assert likely.labels == whole.labels
    for bounds, words in (
        (trunkline.Unknown(min_probability=2.0), "from 0 to 1"),
        (trunkline.Unknown(max_distance=-1.0), "positive"),
    ):
        with pytest.raises(trunkline.InvalidRequest, match=words):
            client.predict(images, head="h", unknown=bounds)


def test_two_kinds_of_items_or_none_are_refused(server):
    with heads_channel(server) as stub:
        for request in (
            heads_pb2.PredictRequest(heads=["h"]),
            heads_pb2.PredictRequest(heads=["h"], ids=["a"], images=[{"encoded": b"x"}]),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(request)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "exactly one of images, embeddings and ids" in caught.value.details()
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(heads_pb2.PredictRequest(heads=["h"] * 1000, ids=["a"], collection="c"))
        assert "1000 heads in one request" in caught.value.details()


def test_what_is_too_much_is_refused_before_it_is_computed(server, monkeypatch):
    monkeypatch.setattr(head_converters, "_MOST_OUTPUTS", 9)
    with trunkline.Client(str(server.address)) as client:
        info = client.create_collection("shades", "tiny")
        labels = ["dark", "light"] * 10
        ids = [f"r{index}" for index in range(20)]
        client.upsert("shades", ids, vectors(20), space_id=info.space_id, labels=labels)
        client.fit_head("shades", "h", "centroid")
        monkeypatch.setattr(StackedHeads, "outputs", None)
        with pytest.raises(trunkline.InvalidRequest, match="5 items with 2 outputs each are more than 9"):
            client.predict(head="h", vectors=vectors(5), space_id=info.space_id)
        request = heads_pb2.PredictRequest(heads=["h"], ids=ids[:5], collection="shades")
        request.neighbours.collection, request.neighbours.k = "shades", 20_001
    with pytest.raises(InvalidArgument, match="100,005 hits"):
        HeadsServicer(server.workspace).Predict(request, None)


def test_vectors_that_are_no_numbers_are_failed_items(server):
    with trunkline.Client(str(server.address)) as client:
        info = client.create_collection("shades", "tiny")
        labels = ["dark", "light"] * 10
        client.upsert(
            "shades", [f"r{i}" for i in range(20)], vectors(20), space_id=info.space_id, labels=labels
        )
        client.fit_head("shades", "h", "centroid")
        rows = vectors(4)
        rows[1, 3], rows[2, 0] = np.nan, np.inf
        for top_k in (None, 1):
            found = client.predict(head="h", vectors=rows, space_id=info.space_id, top_k=top_k)
            assert [failure.index for failure in found.errors] == [1, 2]
            assert "the embedding of item 1 holds NaN or infinity" in found.errors[0].message
            assert found.labels == ["dark", None, None, "light"]
            assert np.isnan(found.probabilities[1:3]).all()
