"""Takes run-time shape arithmetic out of a traced graph.

PyTorch's exporter reads the batch size at run time wherever a network reshapes, and computes with it
in int64 nodes. ONNX Runtime puts such nodes on the CPU, which a CUDA session of ours refuses
(contract 6: no silent CPU), and which costs a copy each time where it is allowed. In a backbone the
batch size is the one number that is not fixed, so -1 says the same.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trunkline_export.gate.candidate import session_of

_PROBED = ("Reshape", "Expand")
# Two sizes that no other dimension is likely to follow by chance; the batch check runs others.
_SIZES = (2, 3)
_ZERO = "batch_zero"


def settle(model: onnx.ModelProto, sample: tuple[int, int, int]) -> None:
    """Replaces computed shapes by constants with one -1, in place; leaves alone what that can't express.

    Args:
        model: A graph of one uint8 input [batch, height, width, 3].
        sample: (height, width, 3).
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in _PROBED and node.input[1] not in constants]
    if not nodes:
        _drop_unused(graph)
        return
    for node, small, large in zip(nodes, *_shapes(model, nodes, sample), strict=True):
        varying = [axis for axis, (a, b) in enumerate(zip(small, large, strict=True)) if a != b]
        if len(varying) > 1 or 0 in small:
            continue
        if node.op_type == "Reshape":
            dims = [-1 if axis in varying else size for axis, size in enumerate(small)]
            _replace_shape(graph, node, dims)
        elif varying == [0] and node.input[0] in constants:
            held = constants[node.input[0]]
            if held.data_type == TensorProto.FLOAT and list(held.dims) == [1, *small[1:]]:
                _repeat_over_batch(graph, node, len(small))
    _drop_unused(graph)


def _shapes(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], sample: tuple[int, int, int]
) -> list[list[list[int]]]:
    """The shape of each node's output, for each of ``_SIZES``."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.ClearField("output")
    for number, node in enumerate(nodes):
        name = f"probed_{number}"
        probe.graph.node.append(helper.make_node("Shape", [node.output[0]], [name]))
        probe.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT64, [None]))
    session = session_of(probe.SerializeToString())
    image = model.graph.input[0].name
    found: list[list[NDArray[np.int64]]] = [
        session.run(None, {image: np.zeros((size, *sample), np.uint8)}) for size in _SIZES
    ]
    return [[shape.tolist() for shape in shapes] for shapes in found]


def _replace_shape(graph: onnx.GraphProto, node: onnx.NodeProto, dims: list[int]) -> None:
    node.input[1] = _constant(graph, f"{node.output[0]}_shape", np.array(dims, np.int64))


def _repeat_over_batch(graph: onnx.GraphProto, node: onnx.NodeProto, rank: int) -> None:
    """A constant [1, ...] to [batch, ...]: added to a zero per image, made from the image's first byte."""
    zero = f"{_ZERO}_{rank}"
    if not any(zero in other.output for other in graph.node):
        first, last = np.zeros(3, np.int64), np.ones(3, np.int64)
        inputs = [
            graph.input[0].name,
            _constant(graph, f"{zero}_starts", first),
            _constant(graph, f"{zero}_ends", last),
            _constant(graph, f"{zero}_axes", np.arange(1, 4, dtype=np.int64)),
        ]
        factor = _constant(graph, f"{zero}_factor", np.zeros(1, np.float32))
        shape = _constant(graph, f"{zero}_shape", np.array([-1] + [1] * (rank - 1), np.int64))
        made = [
            helper.make_node("Slice", inputs, [f"{zero}_byte"]),
            helper.make_node("Cast", [f"{zero}_byte"], [f"{zero}_float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{zero}_float", factor], [f"{zero}_product"]),
            helper.make_node("Reshape", [f"{zero}_product", shape], [zero]),
        ]
        for position, entry in enumerate(made):
            graph.node.insert(position, entry)
    node.CopyFrom(helper.make_node("Add", [node.input[0], zero], list(node.output), name=node.name))


def _constant(graph: onnx.GraphProto, name: str, values: NDArray[np.generic]) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {output.name for output in graph.output}
    kept = []
    # Nodes stand in topological order, so one walk from the end sees every use before the node itself.
    for node in reversed(graph.node):
        if used.intersection(node.output):
            used.update(node.input)
            kept.append(node)
    nodes = list(reversed(kept))
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.ClearField("initializer")
    graph.initializer.extend(tensors)
