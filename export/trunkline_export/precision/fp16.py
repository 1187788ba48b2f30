"""fp32 to fp16, for GPUs, by ONNX Runtime's converter; what would overflow stays float32 and is never clipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from trunkline_export.precision import choice, front, prepare, ranges, written
from trunkline_export.precision.ranges import Extremes, Pixels
from trunkline_export.precision.report import Kept, Report

METHOD = "fp16 weights and activations, normalisation in float32"
LARGEST: Final = float(np.finfo(np.float16).max)
# Other images than those of the calibration may reach further.
_ROOM = 2.0
# Sums of squares, which overflow long before their root does; they are a vector an image, so they cost nothing.
_NORMS = ("ReduceL2", "ReduceSumSquare", "LpNormalization")
_MADE = "_cast_to_fp16_node"


def convert(source: Path, target: Path, calibration: Pixels | Iterable[Pixels]) -> Report:
    """Writes an fp16 file with the types of the fp32 one outside: uint8 pixels in, float32 vectors out.

    Args:
        source: An fp32 file, uint8 [batch, height, width, 3] to float32 [batch, dim].
        target: The file to write.
        calibration: Images like those that will be served, prepared: uint8 [N, height, width, 3], or batches
            of them. They show which values outgrow fp16.

    Raises:
        ExportError: The file can't be read, there are no images, or the result is no valid ONNX.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = prepare.load(source)
    work = choice.multiply_adds(model)
    batches = [calibration] if isinstance(calibration, np.ndarray) else calibration
    found, images = ranges.measure(model, batches)
    reasons = _too_large(model.graph, found)
    fronts = {node.name for node in front.nodes(model.graph)}
    kept = [
        Kept(node.name, node.op_type, reasons[node.name]) for node in model.graph.node if node.name in reasons
    ]
    types = {node.name: node.op_type for node in model.graph.node if _makes_floats(node, found)}
    half = [name for name in types if name not in reasons and name not in fronts]
    result = convert_float_to_float16(
        model, keep_io_types=True, disable_shape_infer=True, node_block_list=sorted({*reasons, *fronts})
    )
    _join(result.graph)
    written.write(result, target)
    return Report(
        precision="fp16",
        method=METHOD,
        images=images,
        converted=dict(sorted(Counter(types[name] for name in half).items())),
        kept=tuple(kept),
        share=sum(work.get(name, 0) for name in half) / max(1, sum(work.values())),
    )


def _too_large(graph: onnx.GraphProto, found: Mapping[str, Extremes]) -> dict[str, str]:
    """Why operators must stay float32, by name."""
    weights = {
        tensor.name: _magnitude(numpy_helper.to_array(tensor))
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    reasons = {}
    for node in graph.node:
        weight = max((weights.get(name, 0.0) for name in node.input), default=0.0)
        reach = max(
            (found[name].magnitude for name in (*node.input, *node.output) if name in found), default=0.0
        )
        if node.op_type in _NORMS:
            reasons[node.name] = "it sums squares"
        # Written so that NaN stays float32.
        elif not weight <= LARGEST:
            reasons[node.name] = f"a weight of it is beyond {LARGEST:,.0f}"
        elif not reach * _ROOM <= LARGEST:
            reasons[node.name] = f"values of it come near {LARGEST:,.0f} or pass it"
    return reasons


def _magnitude(values: NDArray[np.float32]) -> float:
    """The largest absolute value; infinity itself is the same number in fp16, as masks have it."""
    return float(np.abs(values).max(initial=0, where=~np.isinf(values)))


def _makes_floats(node: onnx.NodeProto, found: Mapping[str, Extremes]) -> bool:
    return any(name in found for name in node.output)


def _join(graph: onnx.GraphProto) -> None:
    """Between float32 operators the converter goes through fp16 and back, where values overflow; takes that out."""
    narrowed = {node.output[0]: node.input[0] for node in graph.node if node.name.endswith(_MADE)}
    outputs = {output.name for output in graph.output}
    renamed = {}
    for node in [node for node in graph.node if node.op_type == "Cast" and node.input[0] in narrowed]:
        if node.attribute[0].i != TensorProto.FLOAT:
            continue
        wide = narrowed[node.input[0]]
        if node.output[0] in outputs:
            renamed[wide] = node.output[0]
        else:
            renamed[node.output[0]] = wide
        graph.node.remove(node)
    for node in graph.node:
        for names in (node.input, node.output):
            for number, name in enumerate(names):
                names[number] = renamed.get(renamed.get(name, name), renamed.get(name, name))
    used = {name for node in graph.node for name in node.input} | outputs
    for node in [node for node in graph.node if node.name.endswith(_MADE) and node.output[0] not in used]:
        graph.node.remove(node)
