from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument, ModelFileError, SpaceMismatch
from trunkline_service.heads.network import Network
from trunkline_service.heads.serving import onnx_head
from trunkline_service.heads.serving.loaded import LoadedHead

MakeNetwork = Callable[..., Network]
MakeHead = Callable[..., LoadedHead]
ROWS = np.random.default_rng(9).normal(size=(40, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def network(make_network: MakeNetwork) -> Network:
    return make_network(rank=2)


@pytest.fixture(scope="module")
def loaded(make_head: MakeHead, network: Network) -> LoadedHead:
    return make_head(network)


def test_it_predicts_what_its_network_computes(loaded: LoadedHead, network: Network) -> None:
    space = loaded.card.space_id
    found = loaded.answer(ROWS, space)
    assert found.outputs.dtype == np.float32
    np.testing.assert_allclose(found.outputs, network(ROWS), atol=1e-5)
    assert found.distance is not None
    assert network.distance is not None
    np.testing.assert_allclose(found.distance, network.distance(ROWS)[:, 0], rtol=1e-4)
    np.testing.assert_array_equal(loaded.outputs(ROWS, space), found.outputs)
    np.testing.assert_array_equal(loaded.probabilities(ROWS, space), found.outputs)
    distances = loaded.distances(ROWS, space)
    assert distances is not None
    np.testing.assert_array_equal(distances, found.distance)
    assert loaded.has_distance


def test_a_head_without_a_distance(make_network: MakeNetwork, make_head: MakeHead) -> None:
    plain = make_head(make_network())
    assert plain.answer(ROWS, plain.card.space_id).distance is None
    assert not plain.has_distance


def test_heads_of_other_tasks(make_network: MakeNetwork, make_head: MakeHead) -> None:
    values = make_network(activation="none")
    regression = make_head(values, "regression")
    space = regression.card.space_id
    np.testing.assert_allclose(regression.outputs(ROWS, space), values(ROWS), rtol=1e-4, atol=1e-5)
    with pytest.raises(
        InvalidArgument, match=r"flowers@1 is for regression and gives values, no probabilities"
    ):
        regression.probabilities(ROWS, space)
    several = make_network(activation="sigmoid", classes=1)
    multi = make_head(several, "multi-label")
    np.testing.assert_allclose(multi.probabilities(ROWS, space), several(ROWS), atol=1e-5)
    scores = make_network("distance", activation="none")
    anomaly = make_head(scores, "anomaly")
    found = anomaly.answer(ROWS, space)
    assert found.outputs.shape == (40, 1)
    assert found.distance is not None
    np.testing.assert_array_equal(found.distance, found.outputs[:, 0])
    assert anomaly.has_distance


def test_batch_mates_change_nothing(loaded: LoadedHead) -> None:
    together = loaded.probabilities(ROWS, loaded.card.space_id)
    alone = np.vstack([loaded.probabilities(ROWS[i : i + 1], loaded.card.space_id) for i in range(len(ROWS))])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_failed_rows_stay_failed_and_harm_nobody(loaded: LoadedHead) -> None:
    rows = ROWS[:5].copy()
    rows[1, 2], rows[3, 0], rows[4] = np.nan, np.inf, np.nan
    found = loaded.answer(rows, loaded.card.space_id)
    assert found.distance is not None
    assert np.isnan(found.outputs[[1, 3, 4]]).all()
    assert np.isnan(found.distance[[1, 3, 4]]).all()
    expected = loaded.answer(ROWS[[0, 2]], loaded.card.space_id)
    assert expected.distance is not None
    np.testing.assert_allclose(found.outputs[[0, 2]], expected.outputs, atol=1e-6)
    np.testing.assert_allclose(found.distance[[0, 2]], expected.distance, rtol=1e-5)


def test_only_failed_rows_and_no_rows(loaded: LoadedHead) -> None:
    nothing = loaded.answer(np.full((2, 6), np.nan, np.float32), loaded.card.space_id)
    assert nothing.outputs.shape == (2, 3)
    assert np.isnan(nothing.outputs).all()
    empty = loaded.answer(np.empty((0, 6), np.float32), loaded.card.space_id)
    assert empty.outputs.shape == (0, 3)
    assert empty.distance is not None
    assert empty.distance.shape == (0,)


def test_rows_that_are_not_contiguous(loaded: LoadedHead) -> None:
    turned = np.asfortranarray(ROWS)[::-2]
    expected = loaded.probabilities(np.ascontiguousarray(turned), loaded.card.space_id)
    np.testing.assert_array_equal(loaded.probabilities(turned, loaded.card.space_id), expected)


def test_another_space_is_refused_naming_both(loaded: LoadedHead) -> None:
    other = "sp1-" + "f" * 32
    with pytest.raises(SpaceMismatch) as caught:
        loaded.probabilities(ROWS, other)
    assert other in caught.value.message
    assert loaded.card.space_id in caught.value.message
    assert "flowers@1" in caught.value.message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            np.zeros((2, 5), np.float32),
            r"takes embeddings of shape \(N, 6\), and these are of shape \(2, 5\)",
        ),
        (np.zeros(6, np.float32), r"of shape \(6,\)"),
        (np.zeros((2, 6), np.float64), "float32 array, and are float64"),
        ([[0.0] * 6], "float32 array, and are list"),
    ],
)
def test_rows_that_cannot_be_used(loaded: LoadedHead, rows: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        loaded.probabilities(rows, loaded.card.space_id)


def test_names_that_are_no_text(loaded: LoadedHead, make_network: MakeNetwork) -> None:
    model = onnx_head.build(make_network(), [f"c{k}" for k in range(3)], loaded.card.space_id, "single-label")
    for old, new in ((b"Gemm", b"Ge\xff\xfe"), (b"embedding", b"embeddin\xff")):
        assert old in model
        with pytest.raises(ModelFileError, match=r"head.onnx of flowers@1"):
            LoadedHead(loaded.card, model.replace(old, new))


@pytest.mark.parametrize("model", [b"", b"not a model", b"\x08\x08"])
def test_bytes_that_are_no_model(loaded: LoadedHead, model: bytes) -> None:
    with pytest.raises(ModelFileError, match=r"can't load head.onnx of flowers@1"):
        LoadedHead(loaded.card, model)


@pytest.mark.parametrize(
    ("shape", "task"),
    [({"dim": 9}, "single-label"), ({"classes": 2}, "single-label"), ({"activation": "none"}, "regression")],
)
def test_a_model_of_other_shapes_than_the_card(
    loaded: LoadedHead, make_network: MakeNetwork, shape: dict[str, Any], task: Any
) -> None:
    network = make_network(**shape)
    labels = [str(k) for k in range(network.outputs)]
    with pytest.raises(ModelFileError, match="its card says"):
        LoadedHead(loaded.card, onnx_head.build(network, labels, "sp1-x", task))


def test_weights_are_read_once_and_the_file_let_go(make_head: MakeHead, network: Network) -> None:
    head = make_head(network)
    first = head.linear
    assert first is not None
    assert head.linear is first
