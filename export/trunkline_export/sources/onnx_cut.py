"""Cutting an ONNX graph at a tensor, and freeing a batch size that was fixed when it was written."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from trunkline_service.errors import ExportError
from trunkline_service.names import near

_SHOWN = 30


def tensor_named(model: onnx.ModelProto, wanted: str) -> str:
    """The tensor that a name means: its own, or that of the node which makes it.

    Raises:
        ExportError: No such tensor or node; lists the last ones.
    """
    tensors = [name for node in model.graph.node for name in node.output if name]
    if wanted in tensors:
        return wanted
    made = [list(node.output) for node in model.graph.node if node.name == wanted]
    if made and len(made[0]) == 1:
        return str(made[0][0])
    nodes = [node.name for node in model.graph.node if node.name]
    raise ExportError(
        f"--output {wanted!r} is no tensor or node of the graph{near(wanted, [*tensors, *nodes])}. Its last "
        f"tensors are {', '.join(tensors[-_SHOWN:])}"
    )


def cut_at(model: onnx.ModelProto, taken: str, tensor: str) -> onnx.ModelProto:
    """A graph that ends in ``tensor``, with only the nodes and weights that it needs.

    Raises:
        ExportError: The tensor does not depend on the image.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    needed, kept = {tensor}, []
    # Nodes stand in topological order, so one walk from the end sees every use before the node itself.
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(_inputs(node))
            kept.append(node)
    if taken not in needed:
        raise ExportError(f"--output {tensor!r} does not depend on the input {taken!r}; name another tensor")
    graph.ClearField("node")
    graph.node.extend(reversed(kept))
    weights = [entry for entry in model.graph.initializer if entry.name in needed]
    graph.ClearField("initializer")
    graph.initializer.extend(weights)
    inputs = [entry for entry in model.graph.input if entry.name == taken]
    graph.ClearField("input")
    graph.input.extend(inputs)
    graph.ClearField("output")
    graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    graph.ClearField("value_info")
    return cut


def unpin_batch(model: onnx.ModelProto) -> None:
    """Frees a batch of 1 that the input, and reshapes to constants, were fixed to; in place.

    The batch check of the export runs other sizes, and refuses what is still fixed.
    """
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    fixed = batch.dim_value == 1
    batch.Clear()
    batch.dim_param = "batch"
    if not fixed:
        return
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            if len(shape) > 1 and shape[0] == 1 and -1 not in shape:
                shape[0] = -1
                name = f"{node.output[0]}_free"
                model.graph.initializer.append(numpy_helper.from_array(shape.astype(np.int64), name))
                node.input[1] = name


def _inputs(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, also from within the branches of an If or the body of a Loop."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                yield from _inputs(inner)
            yield from (entry.name for entry in graph.output)
