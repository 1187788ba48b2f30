"""Linear heads side by side as one ONNX graph. Pure.

On one thread of ONNX Runtime, as single heads are: numpy's matrix products take every core and keep its
threads spinning after, next to a backbone that needs them. For one image it is three times as fast besides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.network import Distance, Linear, Network
from trunkline_service.heads.serving.graph import Graph
from trunkline_service.heads.serving.onnx_head import INPUT, IR_VERSION, OPSET

_ACTIVATIONS = {"softmax": "Softmax", "sigmoid": "Sigmoid", "none": "Identity"}


def outputs_model(groups: Sequence[Sequence[Network]]) -> bytes:
    """An ONNX model with one output a group, float32 [batch, heads, K].

    Args:
        groups: Linear heads of one activation and one K each.
    """
    graph = Graph()
    names = []
    for i, networks in enumerate(groups):
        bodies = [network.body for network in networks if isinstance(network.body, Linear)]
        weights = graph.array(f"{i}.W", np.concatenate([body.W for body in bodies]))
        bias = graph.array(f"{i}.b", np.concatenate([body.b for body in bodies]))
        logits = graph.add("Gemm", INPUT, weights, bias, transB=1)
        shape = graph.array(f"{i}.shape", _shape(len(bodies), networks[0].outputs))
        blocks = graph.add("Reshape", logits, shape)
        activation = networks[0].activation
        attributes = {"axis": -1} if activation == "softmax" else {}
        names.append(graph.add(_ACTIVATIONS[activation], blocks, output=f"outputs.{i}", **attributes))
    return _model(graph, groups[0][0].dim, names)


def distances_model(groups: Sequence[Sequence[Distance]]) -> bytes:
    """An ONNX model with one output a group, float32 [batch, heads].

    With x and a head's mean both taken from one point amid all means, a head's direction d gives
    ``d.x - d.mean``, and ``|x - mean|^2 = |x|^2 - 2 x.mean + |mean|^2``: one product with all directions and
    one with all means. It loses few digits as long as the means are close to one another, which those of
    heads of one space are.

    Args:
        groups: Distances of as many directions each.
    """
    means = np.array([distance.mean for group in groups for distance in group], np.float64)
    middle = means.mean(axis=0)
    graph = Graph()
    rows = graph.add("Sub", INPUT, graph.array("middle", middle.astype(np.float32)))
    axis = graph.array("axis", np.array([1], np.int64))
    length = graph.add("ReduceSum", graph.add("Mul", rows, rows), axis, keepdims=1)
    names = [_distances(graph, i, group, middle, rows, length) for i, group in enumerate(groups)]
    return _model(graph, means.shape[1], names)


def _distances(
    graph: Graph, i: int, group: Sequence[Distance], middle: NDArray[np.float64], rows: str, length: str
) -> str:
    means = np.array([distance.mean for distance in group], np.float64) - middle
    rest = np.array([distance.rest for distance in group])
    weights = _floats(graph, f"{i}.means", -2 * means)
    bias = _floats(graph, f"{i}.lengths", (means * means).sum(axis=1))
    total = graph.add("Add", graph.add("Gemm", rows, weights, bias, transB=1), length)
    squared = graph.add("Div", total, _floats(graph, f"{i}.rest", rest))
    count = len(group[0].directions)
    if count:
        directions = np.array([distance.directions for distance in group], np.float64)
        offsets = -np.einsum("hrd,hd->hr", directions, means)
        # A square along a direction counts by that direction's variance instead of the rest's.
        scales = 1 / np.array([distance.variances for distance in group], np.float64) - 1 / rest[:, None]
        along = graph.add(
            "Gemm",
            rows,
            _floats(graph, f"{i}.directions", directions.reshape(len(group) * count, -1)),
            _floats(graph, f"{i}.offsets", offsets.ravel()),
            transB=1,
        )
        scaled = graph.add(
            "Mul", graph.add("Mul", along, along), _floats(graph, f"{i}.scales", scales.ravel())
        )
        blocks = graph.add("Reshape", scaled, graph.array(f"{i}.shape", _shape(len(group), count)))
        last = graph.array(f"{i}.last", np.array([2], np.int64))
        squared = graph.add("Add", squared, graph.add("ReduceSum", blocks, last, keepdims=0))
    # Rounding may take what is 0 below it.
    positive = graph.add("Max", squared, _floats(graph, f"{i}.zero", np.zeros(())))
    size = _floats(graph, f"{i}.dim", np.array(float(means.shape[1])))
    return graph.add("Sqrt", graph.add("Div", positive, size), output=f"distances.{i}")


def _floats(graph: Graph, name: str, values: NDArray[np.float64]) -> str:
    return graph.array(name, values.astype(np.float32))


def _shape(heads: int, size: int) -> NDArray[np.int64]:
    # 0 keeps the batch as it is.
    return np.array([0, heads, size], np.int64)


def _model(graph: Graph, dim: int, names: Sequence[str]) -> bytes:
    from onnx import TensorProto, helper

    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "heads",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", dim])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
            graph.initializers,
        ),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    data: bytes = made.SerializeToString()
    return data
