"""A small network that exists only as ONNX, what its images go through, and the space that it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trunkline_service.models.identity import space_id

if TYPE_CHECKING:
    from trunkline_export.joining.network import OnnxNetwork

SIZE = 32
TRANSFORM = {
    "resize": "shorter",
    "resize_size": [36, 36],
    "interpolation": "bicubic",
    "crop_size": [SIZE, SIZE],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
Change = Callable[[onnx.ModelProto], None]


def network(
    seed: int = 0, opset: int = 17, size: Any = SIZE, kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """x -> map [N, 8, 16, 16] -> gap [N, 8, 1, 1] -> vector [N, 8] -> logits [N, 5]; ``idle`` reads no image."""
    random = np.random.default_rng(seed)
    weights = {
        "conv.weight": random.normal(size=(8, 3, 3, 3)) / 5,
        "conv.bias": random.normal(size=8) / 5,
        "fc.weight": random.normal(size=(8, 5)),
        "fc.bias": random.normal(size=5),
    }
    nodes = [
        helper.make_node(
            "Conv", ["x", "conv.weight", "conv.bias"], ["conv"], "conv", strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["conv"], ["map"], "relu"),
        helper.make_node("GlobalAveragePool", ["map"], ["gap"], "gap_node"),
        helper.make_node("Flatten", ["gap"], ["vector"], "flatten"),
        helper.make_node("Gemm", ["vector", "fc.weight", "fc.bias"], ["logits"], "fc"),
        helper.make_node("ArgMax", ["logits"], ["best"], "argmax", axis=1, keepdims=0),
        helper.make_node("Split", ["vector"], ["left", "right"], "split", axis=1, **_halves(opset)),
        helper.make_node("Neg", ["fc.bias"], ["idle"], "idle_node"),
        helper.make_node("Shape", ["x"], ["shape"], "shape_node"),
        helper.make_node("Cast", ["shape"], ["sizes"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["vector", "zero"], ["dead"], "dead_node"),
    ]
    weights["zero"] = np.zeros(1)
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", kind, ["n", 3, size, size])],
        [helper.make_tensor_value_info("logits", kind, ["n", 5])],
        [
            numpy_helper.from_array(value.astype(helper.tensor_dtype_to_np_dtype(kind)), name)
            for name, value in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _halves(opset: int) -> dict[str, int]:
    return {"num_outputs": 2} if opset >= 18 else {}


def space(found: OnnxNetwork) -> str:
    return space_id(found.tensors(), found.architecture, found.preprocess, found.output)
