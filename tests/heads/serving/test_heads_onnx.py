from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import InvalidArgument, ModelFileError, SpaceMismatch
from trunkline_service.heads.fit import FittedHead
from trunkline_service.heads.kinds.linear import softmax
from trunkline_service.heads.serving import onnx_head
from trunkline_service.heads.serving.loaded import LoadedHead
from trunkline_service.heads.storage.registry import HeadRegistry


@pytest.fixture
def loaded(tmp_path: Path, fitted: FittedHead) -> LoadedHead:
    registry = HeadRegistry(tmp_path)
    return registry.load(registry.save(fitted, "flowers").ref)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), dim=st.integers(1, 50), classes=st.integers(2, 9), n=st.integers(1, 40)
)
def test_onnx_computes_the_softmax_of_the_affine_map(seed: int, dim: int, classes: int, n: int) -> None:
    import onnxruntime as ort

    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(classes, dim)).astype(np.float32)
    bias = generator.normal(size=classes).astype(np.float32)
    rows = generator.normal(size=(n, dim)).astype(np.float32)
    model = onnx_head.build(weights, bias, [str(k) for k in range(classes)], "sp1-x")
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run([onnx_head.OUTPUT], {onnx_head.INPUT: rows})
    np.testing.assert_allclose(found, softmax(rows @ weights.T + bias), atol=1e-5)


def test_the_file_says_what_it_is_and_asks_for_little(fitted: FittedHead) -> None:
    import onnx

    labels = ["<script>", "日本", 'a"b\\']
    data = onnx_head.build(fitted.W, fitted.b, labels, fitted.space_id)
    assert data == onnx_head.build(fitted.W, fitted.b, labels, fitted.space_id)
    model = onnx.load_from_string(data)
    assert model.ir_version <= 10
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    props = {p.key: p.value for p in model.metadata_props}
    assert props["trunkline.space_id"] == fitted.space_id
    assert json.loads(props["trunkline.classes"]) == labels
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Softmax"]


@pytest.mark.parametrize(
    ("weights", "bias", "labels"),
    [
        (np.zeros((2, 3), np.float32), np.zeros(3, np.float32), ["a", "b"]),
        (np.zeros((2, 3), np.float32), np.zeros(2, np.float32), ["a"]),
        (np.zeros((2, 3), np.float64), np.zeros(2, np.float32), ["a", "b"]),
    ],
)
def test_parts_that_do_not_fit_together(weights: Any, bias: Any, labels: list[str]) -> None:
    with pytest.raises(ValueError, match=r"do not fit together|must be float32"):
        onnx_head.build(weights, bias, labels, "sp1-x")


def test_a_loaded_head_predicts_what_was_fitted(loaded: LoadedHead, fitted: FittedHead, iris: Any) -> None:
    found = loaded.probabilities(iris.embeddings, iris.space_id)
    assert found.dtype == np.float32
    assert found.shape == (150, 3)
    np.testing.assert_allclose(found, softmax(iris.embeddings @ fitted.W.T + fitted.b), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_batch_mates_change_nothing(loaded: LoadedHead, iris: Any) -> None:
    together = loaded.probabilities(iris.embeddings, iris.space_id)
    alone = np.vstack([loaded.probabilities(iris.embeddings[i : i + 1], iris.space_id) for i in range(150)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_failed_rows_stay_failed_and_harm_nobody(loaded: LoadedHead, iris: Any) -> None:
    rows = iris.embeddings[:5].copy()
    rows[1, 2], rows[3, 0], rows[4] = np.nan, np.inf, np.nan
    found = loaded.probabilities(rows, iris.space_id)
    assert np.isnan(found[[1, 3, 4]]).all()
    expected = loaded.probabilities(iris.embeddings[[0, 2]], iris.space_id)
    np.testing.assert_allclose(found[[0, 2]], expected, atol=1e-6)


def test_only_failed_rows_and_no_rows(loaded: LoadedHead, iris: Any) -> None:
    nothing = loaded.probabilities(np.full((2, 4), np.nan, np.float32), iris.space_id)
    assert nothing.shape == (2, 3)
    assert np.isnan(nothing).all()
    assert loaded.probabilities(np.empty((0, 4), np.float32), iris.space_id).shape == (0, 3)


def test_rows_that_are_not_contiguous(loaded: LoadedHead, iris: Any) -> None:
    turned = np.asfortranarray(iris.embeddings)[::-2]
    expected = loaded.probabilities(np.ascontiguousarray(turned), iris.space_id)
    np.testing.assert_array_equal(loaded.probabilities(turned, iris.space_id), expected)


def test_another_space_is_refused_naming_both(loaded: LoadedHead, iris: Any) -> None:
    other = "sp1-" + "f" * 32
    with pytest.raises(SpaceMismatch) as caught:
        loaded.probabilities(iris.embeddings, other)
    assert other in caught.value.message
    assert iris.space_id in caught.value.message
    assert "flowers@1" in caught.value.message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            np.zeros((2, 5), np.float32),
            r"takes embeddings of shape \(N, 4\), and these are of shape \(2, 5\)",
        ),
        (np.zeros(4, np.float32), r"of shape \(4,\)"),
        (np.zeros((2, 4), np.float64), "float32 array, and are float64"),
        ([[0.0] * 4], "float32 array, and are list"),
    ],
)
def test_rows_that_cannot_be_used(loaded: LoadedHead, rows: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        loaded.probabilities(rows, loaded.card.space_id)


@pytest.mark.parametrize("model", [b"", b"not a model", b"\x08\x08"])
def test_bytes_that_are_no_model(loaded: LoadedHead, model: bytes) -> None:
    with pytest.raises(ModelFileError, match=r"can't load head.onnx of flowers@1"):
        LoadedHead(loaded.card, model)


def test_a_model_of_other_shapes_than_the_card(loaded: LoadedHead) -> None:
    labels = ["a", "b"]
    model = onnx_head.build(np.zeros((2, 9), np.float32), np.zeros(2, np.float32), labels, "sp1-x")
    with pytest.raises(ModelFileError, match="its card says"):
        LoadedHead(loaded.card, model)
