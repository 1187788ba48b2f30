"""Freeing a batch size that an ONNX network was written with.

What such a file holds of its batch: the shape of its input, the targets of Reshape, and constants that are
joined to each image's tokens. The batch axis is the first wherever this knows of it; where a network keeps
it elsewhere, what comes out fails to run, or fails the batch check of the export.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trunkline_export.gate.candidate import session_of
from trunkline_export.joining.walk import per_image

BATCH = "batch"
# Before the names of what is added, which shall be nobody else's.
_FREE = "trunkline_free/"


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """The batch size that the network's input was declared with, or None where it is free."""
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    return int(dim.dim_value) if dim.dim_value > 0 else None


def free_batch(model: onnx.ModelProto, example: tuple[int, ...]) -> None:
    """Frees the batch of a network of one input, in place.

    Args:
        model: The network.
        example: Shape of an input that it runs with as it is.
    """
    graph = model.graph
    batch = fixed_batch(model)
    dim = graph.input[0].type.tensor_type.shape.dim[0]
    dim.Clear()
    dim.dim_param = BATCH
    if batch is None:
        return
    images = per_image(graph)
    # Computed targets too: PyTorch's tracer mixes sizes that it reads at run time with a batch of 1 that it knows.
    reshapes = [node for node in graph.node if node.op_type == "Reshape" and node.input[0] in images]
    joins = [node for node in graph.node if node.op_type == "Concat" and node.output[0] in images]
    wanted = [node.output[0] for node in reshapes]
    wanted += [name for node in joins for name in node.input if name not in images]
    shapes = _shapes(model, wanted, example)
    for node in reshapes:
        target = np.array([-1, *shapes[node.output[0]][1:]], np.int64)
        node.input[1] = _constant(graph, f"{_FREE}{node.output[0]}", target)
    for node in joins:
        axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
        for position, name in enumerate(node.input):
            if name not in images and axis != 0 and shapes[name][0] == 1:
                _repeat(graph, node, position, len(shapes[name]))


def _shapes(model: onnx.ModelProto, names: list[str], example: tuple[int, ...]) -> dict[str, list[int]]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.ClearField("output")
    distinct = list(dict.fromkeys(names))
    for number, name in enumerate(distinct):
        shape = f"probed_{number}"
        probe.graph.node.append(helper.make_node("Shape", [name], [shape]))
        probe.graph.output.append(helper.make_tensor_value_info(shape, TensorProto.INT64, [None]))
    if not distinct:
        return {}
    session = session_of(probe.SerializeToString())
    found: list[NDArray[np.int64]] = session.run(
        None, {model.graph.input[0].name: np.zeros(example, np.float32)}
    )
    return {name: shape.tolist() for name, shape in zip(distinct, found, strict=True)}


def _repeat(graph: onnx.GraphProto, join: onnx.NodeProto, position: int, rank: int) -> None:
    """Gives a Concat its constant [1, ...] once for each image: added to a zero made from the image's first value.

    Not by Expand, since the batch size would be computed in int64 nodes, which ONNX Runtime puts on the CPU.
    """
    zero = f"{_FREE}zero_{rank}"
    if not any(zero in node.output for node in graph.node):
        inputs = [
            graph.input[0].name,
            _constant(graph, f"{zero}_starts", np.zeros(3, np.int64)),
            _constant(graph, f"{zero}_ends", np.ones(3, np.int64)),
            _constant(graph, f"{zero}_axes", np.arange(1, 4, dtype=np.int64)),
        ]
        factor = _constant(graph, f"{zero}_factor", np.zeros(1, np.float32))
        shape = _constant(graph, f"{zero}_shape", np.array([-1] + [1] * (rank - 1), np.int64))
        made = [
            helper.make_node("Slice", inputs, [f"{zero}_value"]),
            helper.make_node("Mul", [f"{zero}_value", factor], [f"{zero}_product"]),
            helper.make_node("Reshape", [f"{zero}_product", shape], [zero]),
        ]
        for place, node in enumerate(made):
            graph.node.insert(place, node)
    repeated = f"{_FREE}{join.output[0]}_{position}"
    before = next(place for place, node in enumerate(graph.node) if join.output[0] in node.output)
    added = helper.make_node("Add", [join.input[position], zero], [repeated])
    join.input[position] = repeated
    graph.node.insert(before, added)


def _constant(graph: onnx.GraphProto, name: str, values: NDArray[np.generic]) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name
