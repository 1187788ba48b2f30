"""What ``head.onnx`` computes, and what it says of itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.network import Distance, Linear, Mlp, Neighbours, Network, Normaliser
from trunkline_service.heads.serving import onnx_head
from trunkline_service.heads.serving.onnx_linear import linear_network
from trunkline_service.heads.task import OUTPUTS

MakeNetwork = Callable[..., Network]
TASK_OF: dict[str, Any] = {"softmax": "single-label", "sigmoid": "multi-label", "none": "regression"}


def names(network: Network, task: str) -> list[str]:
    return [] if task == "anomaly" else [str(k) for k in range(network.outputs)]


def run(network: Network, task: Any, rows: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    import onnxruntime as ort

    model = onnx_head.build(network, names(network, task), "sp1-x", task)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].name == OUTPUTS[task]
    found: list[np.ndarray[Any, Any]] = session.run(None, {onnx_head.INPUT: rows})
    return found


@settings(max_examples=80, deadline=None)
@given(
    body=st.sampled_from(["linear", "mlp", "neighbours", "distance"]),
    seed=st.integers(0, 2**32 - 1),
    dim=st.integers(1, 20),
    classes=st.integers(2, 7),
    rows=st.integers(1, 12),
    activation=st.sampled_from(["softmax", "sigmoid", "none"]),
    normalised=st.booleans(),
    rank=st.sampled_from([None, 0, 1, 3]),
)
def test_the_graph_computes_what_the_network_does(
    make_network: MakeNetwork, body: str, seed: int, dim: int, rows: int, activation: str, **more: Any
) -> None:
    if body == "distance":
        activation = "none"
    network = make_network(body, seed=seed, dim=dim, activation=activation, **more)
    task = "anomaly" if body == "distance" else TASK_OF[activation]
    embeddings = np.random.default_rng(seed + 1).normal(scale=2, size=(rows, dim)).astype(np.float32)
    found = run(network, task, embeddings)
    expected = network(embeddings)
    assert found[0].dtype == np.float32
    assert found[0].shape == expected.shape
    np.testing.assert_allclose(found[0], expected, rtol=2e-4, atol=2e-5)
    assert len(found) == (1 if network.distance is None else 2)
    if network.distance is not None:
        np.testing.assert_allclose(found[1], network.distance(embeddings)[:, 0], rtol=1e-4, atol=1e-5)


def test_a_row_of_zeros_is_normalised_to_zeros(make_network: MakeNetwork) -> None:
    network = make_network(normalised=True)
    network = dataclasses.replace(network, normaliser=Normaliser(np.zeros(6, np.float32)))
    (found,) = run(network, "single-label", np.zeros((1, 6), np.float32))
    np.testing.assert_allclose(found, network(np.zeros((1, 6), np.float32)), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-37, 1e-25, 1e19, 1e37])
def test_tiny_and_huge_rows_are_normalised(make_network: MakeNetwork, scale: float) -> None:
    network = make_network(normalised=True)
    network = dataclasses.replace(network, normaliser=Normaliser(np.zeros(6, np.float32)))
    embeddings = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    scaled = embeddings * np.float32(scale)
    np.testing.assert_allclose(network(scaled), network(embeddings), rtol=1e-4)
    (found,) = run(network, "single-label", scaled)
    np.testing.assert_allclose(found, network(embeddings), rtol=1e-4, atol=1e-6)


def test_votes_of_one_class_add_up() -> None:
    rows = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    body = Neighbours(rows, np.array([1, 1, 0]), classes=3, k=3, temperature=1.0, smoothing=0.5)
    (found,) = run(Network(body, "none"), "regression", np.array([[1, 0]], np.float32))
    weight = np.exp(-1.0)
    shares = np.array([weight, 2, 0]) / (2 + weight)
    np.testing.assert_allclose(found[0], np.log(shares + 0.5), rtol=1e-5)


def test_many_rows_and_classes_take_no_table_of_both(make_network: MakeNetwork) -> None:
    # 20,000 rows of 1,000 classes one-hot would be 80 MB; the file is not.
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(20_000, 8)).astype(np.float32)
    network = Network(Neighbours(rows, generator.integers(0, 1000, 20_000), 1000, 20, 0.1), "softmax")
    model = onnx_head.build(network, names(network, "single-label"), "sp1-x", "single-label")
    assert len(model) < rows.nbytes + 8 * 20_000 + 50_000
    (found,) = run(network, "single-label", rows[:3])
    np.testing.assert_allclose(found, network(rows[:3]), rtol=1e-3, atol=1e-6)


def test_the_file_says_what_it_is_and_asks_for_little(make_network: MakeNetwork) -> None:
    import onnx

    network = make_network(rank=2)
    labels = ["<script>", "日本", 'a"b\\']
    data = onnx_head.build(network, labels, "sp1-x", "single-label")
    assert data == onnx_head.build(network, labels, "sp1-x", "single-label")
    model = onnx.load_from_string(data)
    assert model.ir_version <= 10
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    props = {p.key: p.value for p in model.metadata_props}
    assert props["trunkline.space_id"] == "sp1-x"
    assert props["trunkline.task"] == "single-label"
    assert json.loads(props["trunkline.classes"]) == labels
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [output.name for output in model.graph.output] == ["probabilities", "distance"]


def test_a_plain_linear_head_is_two_nodes(make_network: MakeNetwork) -> None:
    import onnx

    model = onnx.load_from_string(onnx_head.build(make_network(), ["a", "b", "c"], "sp1-x", "single-label"))
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Softmax"]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("rank", [None, 0, 2])
def test_the_weights_of_a_linear_head_can_be_read_back(
    make_network: MakeNetwork, activation: str, rank: int | None
) -> None:
    network = make_network(activation=activation, rank=rank)
    task = TASK_OF[activation]
    found = linear_network(onnx_head.build(network, names(network, task), "sp1-x", task), OUTPUTS[task])
    assert found is not None
    assert isinstance(found.body, Linear)
    assert isinstance(network.body, Linear)
    np.testing.assert_array_equal(found.body.W, network.body.W)
    np.testing.assert_array_equal(found.body.b, network.body.b)
    assert found.activation == activation
    assert (found.distance is None) == (rank is None)
    if found.distance is not None and network.distance is not None:
        for name in ("mean", "directions", "variances", "rest"):
            np.testing.assert_array_equal(getattr(found.distance, name), getattr(network.distance, name))


@pytest.mark.parametrize(
    ("body", "more", "task"),
    [
        ("mlp", {}, "single-label"),
        ("neighbours", {}, "single-label"),
        ("distance", {"activation": "none"}, "anomaly"),
        ("linear", {"normalised": True}, "single-label"),
        ("mlp", {"activation": "none"}, "regression"),
    ],
)
def test_other_heads_are_not_linear(
    make_network: MakeNetwork, body: str, more: dict[str, Any], task: Any
) -> None:
    network = make_network(body, **more)
    assert (
        linear_network(onnx_head.build(network, names(network, task), "sp1-x", task), OUTPUTS[task]) is None
    )


F32 = np.float32


@pytest.mark.parametrize(
    ("network", "labels"),
    [
        (Network(Linear(np.zeros((2, 3), F32), np.zeros(3, F32)), "softmax"), ["a", "b", "c"]),
        (Network(Linear(np.zeros((2, 3), F32), np.zeros(2, F32)), "softmax"), ["a"]),
        (Network(Linear(np.zeros((2, 3)), np.zeros(2, F32)), "softmax"), ["a", "b"]),  # type: ignore[arg-type]
        (
            Network(
                Mlp(
                    Linear(np.zeros((4, 3), F32), np.zeros(4, F32)),
                    Linear(np.zeros((2, 5), F32), np.zeros(2, F32)),
                ),
                "softmax",
            ),
            ["a", "b"],
        ),
        (
            Network(Neighbours(np.zeros((4, 3), F32), np.array([0, 1, 2, 0]), 2, 1, 1.0), "softmax"),
            ["a", "b"],
        ),
        (
            Network(Neighbours(np.zeros((4, 3), F32), np.array([0, 1, 1, 0]), 2, 5, 1.0), "softmax"),
            ["a", "b"],
        ),
        (
            Network(Linear(np.zeros((2, 3), F32), np.zeros(2, F32)), "softmax", Normaliser(np.zeros(4, F32))),
            ["a", "b"],
        ),
        (
            Network(
                Linear(np.zeros((2, 3), F32), np.zeros(2, F32)),
                "softmax",
                None,
                Distance(np.zeros(3, F32), np.zeros((2, 3), F32), np.ones(1, F32), 1.0),
            ),
            ["a", "b"],
        ),
    ],
)
def test_parts_that_do_not_fit_together(network: Network, labels: list[str]) -> None:
    with pytest.raises(ValueError, match=r"do(es)? not fit together|must be float32"):
        onnx_head.build(network, labels, "sp1-x", "single-label")


def test_weights_that_one_file_cannot_hold(
    make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_head, "_MAX_BYTES", 100)
    with pytest.raises(InvalidArgument, match="an ONNX file holds 2 GB; fit it on fewer rows"):
        onnx_head.build(make_network("neighbours"), ["a", "b", "c"], "sp1-x", "single-label")
