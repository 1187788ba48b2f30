"""Cutting an ONNX graph at a tensor."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trunkline_export.joining.walk import keep_used, read_by
from trunkline_service.errors import ExportError
from trunkline_service.names import near

_SHOWN = 12
# Below it, initializers had to be inputs too.
_OLDEST_IR = 4
_WEIGHTS = {
    *(TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.BOOL),
    *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
    *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
}
# Attributes of Constant, and what they hold.
_NUMBERS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def last_tensors(model: onnx.ModelProto) -> str:
    """The graph's last tensors with the operators that make them, for messages."""
    made = [f"{name} ({node.op_type})" for node in model.graph.node for name in node.output if name]
    return ", ".join(made[-_SHOWN:])


def tensor_named(model: onnx.ModelProto, wanted: str) -> str:
    """The tensor that a name means: its own, or that of the node which makes it.

    Raises:
        ExportError: No such tensor or node, or a node that makes several; names what there is.
    """
    tensors = [name for node in model.graph.node for name in node.output if name]
    if wanted in tensors:
        return wanted
    made = [name for node in model.graph.node if node.name == wanted for name in node.output if name]
    if len(made) == 1:
        return str(made[0])
    if made:
        raise ExportError(
            f"--output {wanted!r} is a node that gives {', '.join(made)}; name one of these tensors"
        )
    hint = near(wanted, [*tensors, *(node.name for node in model.graph.node if node.name)])
    raise ExportError(
        f"--output {wanted!r} is no tensor or node of the graph{hint if hint.endswith('?') else '.'} Its last "
        f"tensors are {last_tensors(model)}"
    )


def lift_constants(model: onnx.ModelProto) -> None:
    """Makes initializers of Constant nodes, in place: some exporters write weights and shapes as nodes."""
    kept = []
    for node in model.graph.node:
        tensor = _constant(node) if node.op_type == "Constant" else None
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)


def cut_at(model: onnx.ModelProto, taken: str, tensor: str) -> onnx.ModelProto:
    """A graph that ends in ``tensor``, with only the nodes and weights that it needs.

    Raises:
        ExportError: The tensor does not depend on the image, or on weights that are no plain float32.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    inputs = [entry for entry in model.graph.input if entry.name == taken]
    for part in ("input", "output", "value_info", "quantization_annotation"):
        graph.ClearField(part)
    graph.input.extend(inputs)
    graph.output.append(helper.make_empty_tensor_value_info(tensor))
    keep_used(graph)
    if not any(taken in read_by(node) for node in graph.node):
        raise ExportError(f"--output {tensor!r} does not depend on the input {taken!r}; name another tensor")
    cut.ir_version = max(cut.ir_version, _OLDEST_IR)
    _check_float32(graph)
    return cut


def _check_float32(graph: onnx.GraphProto) -> None:
    others = [entry for entry in graph.initializer if entry.data_type not in _WEIGHTS]
    if others:
        kind = TensorProto.DataType.Name(others[0].data_type)
        raise ExportError(
            f"the network holds weights of type {kind} ({others[0].name}); give it in float32, and --precision "
            "for another"
        )
    if graph.sparse_initializer:
        raise ExportError("the network holds sparse weights; write it with dense ones")
    for node in graph.node:
        if (
            "quantize" in node.op_type.lower()
            or node.op_type.startswith("QLinear")
            or node.op_type.endswith("Integer")
        ):
            raise ExportError(
                f"the network is quantised already ({node.op_type}); give it in float32, and --precision int8"
            )


def _constant(node: onnx.NodeProto) -> TensorProto | None:
    """The value of a Constant node, or None for kinds that are no weights."""
    attribute = node.attribute[0]
    if attribute.name == "value":
        found = TensorProto()
        found.CopyFrom(attribute.t)
        return found
    kind = _NUMBERS.get(attribute.name)
    return kind and numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), kind))
