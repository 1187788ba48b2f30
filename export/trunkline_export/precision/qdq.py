"""The chosen operators of a graph between QuantizeLinear and DequantizeLinear, by ONNX Runtime's quantiser."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper

from trunkline_export.precision import choice

Ranges = Mapping[str, tuple[float, float]]


def quantized(
    model: onnx.ModelProto, chosen: Collection[str], ranges: Ranges, portable: bool
) -> onnx.ModelProto:
    """A copy of a graph with int8 weights, a scale an output channel, and uint8 activations.

    Activations are asymmetric uint8 and weights symmetric int8, since these are the types that have fast
    kernels on x86 (VNNI); products write float32, which costs nothing and rounds once less.

    Args:
        model: Every node has a name of its own; inner types and shapes are inferred.
        chosen: Names of operators with weights, at least one.
        ranges: The lowest and the highest value of every tensor that may become int8, zero inside.
        portable: Whether weights use 7 of the 8 bits. x86 CPUs without VNNI add products in pairs of 16 bits,
            which 8 bits overflow: such a CPU computes other vectors, without a word.
    """
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    along = choice.between(copy.graph, chosen)
    known = dict(ranges)
    for name, same in _apart(copy.graph, {*chosen, *along}).items():
        known[same] = known[name]
    limits = {name: tuple(np.array(limit, np.float32) for limit in pair) for name, pair in known.items()}
    quantiser = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=portable,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=[*chosen, *along],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({node.op_type for node in copy.graph.node}),
        extra_options={"OpTypesToExcludeOutputQuantization": list(choice.PRODUCTS)},
    )
    quantiser.quantize_model()
    result: onnx.ModelProto = quantiser.model.model
    return result


def _apart(graph: onnx.GraphProto, ours: Collection[str]) -> dict[str, str]:
    """Gives int8 operators their own name for a float tensor that float operators read too, in place.

    The quantiser replaces a tensor for all its readers. A float residual stream would be rounded with it.

    Returns:
        The new name by the old one.
    """
    written = {
        out
        for node in graph.node
        if node.name in ours and node.op_type not in choice.PRODUCTS
        for out in node.output
    }
    outside = {name for node in graph.node if node.name not in ours for name in node.input}
    outside |= {output.name for output in graph.output}
    floats = {info.name: info for info in graph.value_info if info.name in outside - written}
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        for number, name in enumerate(node.input if node.name in ours else ()):
            if name in floats and name not in renamed:
                renamed[name] = f"{name}_int8"
                nodes.append(helper.make_node("Identity", [name], [renamed[name]], name=f"{name}_apart"))
                info = graph.value_info.add()
                info.CopyFrom(floats[name])
                info.name = renamed[name]
            node.input[number] = renamed.get(name, name)
        nodes.append(node)
    graph.ClearField("node")
    graph.node.extend(nodes)
    return renamed
