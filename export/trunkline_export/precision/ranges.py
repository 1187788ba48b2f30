"""How far the values of a graph's tensors reach on calibration images, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trunkline_service.errors import ExportError

Pixels = NDArray[np.uint8]
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
# Reductions have taken their axes as an input since this operator set.
_AXES_ARE_INPUTS = 18


@dataclass(frozen=True)
class Extremes:
    """Of one tensor.

    Attributes:
        lowest: Its smallest value for each image, float32 [N].
        highest: Its largest value for each image, float32 [N].
    """

    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]

    @property
    def magnitude(self) -> float:
        """The largest absolute value; NaN and infinity count as infinity."""
        largest = float(max(np.abs(self.lowest).max(), np.abs(self.highest).max()))
        return largest if np.isfinite(largest) else float("inf")

    def covering(self, images: float) -> tuple[float, float]:
        """The range that this share of the images stays inside of, on either side; it holds zero."""
        lowest, highest = np.quantile(self.lowest, 1 - images), np.quantile(self.highest, images)
        return min(float(lowest), 0.0), max(float(highest), 0.0)


def measure(model: onnx.ModelProto, batches: Iterable[Pixels]) -> tuple[dict[str, Extremes], int]:
    """Runs the graph as it stands, and looks at every float tensor that has a row an image.

    Only two numbers a tensor and image are kept, so memory does not grow with the number of images.

    Args:
        model: Its inner types and shapes inferred.
        batches: uint8 [n, height, width, 3] each, of any sizes.

    Returns:
        The extremes by tensor, and the number of images.

    Raises:
        ExportError: No images.
    """
    names = _tensors(model)
    session = _session(_probed(model, names))
    outputs = [output.name for output in session.get_outputs()]
    # One image a run: every tensor of the graph may be alive at once while it is measured.
    parts: list[list[NDArray[np.float32]]] = [
        session.run(outputs, {model.graph.input[0].name: image[None]})
        for pixels in batches
        for image in pixels
    ]
    if not parts:
        raise ExportError("calibration needs images; none were given")
    found = dict(zip(outputs, (np.concatenate(column) for column in zip(*parts, strict=True)), strict=True))
    images = len(next(iter(found.values()), ()))
    return {
        name: Extremes(found[f"lowest_{number}"], found[f"highest_{number}"])
        for number, name in enumerate(names)
    }, images


def opset(model: onnx.ModelProto) -> int:
    """The ONNX operator set that the graph is written in."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def shapes(model: onnx.ModelProto) -> Mapping[str, tuple[int, ...]]:
    """The shape of every inner float tensor that is known; 0 stands for the batch and what is unknown."""
    graph = model.graph
    return {
        info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        for info in (*graph.input, *graph.value_info, *graph.output)
        if info.type.tensor_type.elem_type in _FLOATS and info.type.tensor_type.HasField("shape")
    }


def _tensors(model: onnx.ModelProto) -> list[str]:
    known = shapes(model)
    made = [name for node in model.graph.node for name in node.output]
    return [name for name in made if len(known.get(name, ())) > 1 and known[name][0] == 0]


def _probed(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The graph with two outputs a tensor, each [batch]."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    graph, known = probed.graph, shapes(model)
    types = {info.name: info.type.tensor_type.elem_type for info in (*graph.value_info, *graph.output)}
    graph.ClearField("output")
    as_input = opset(model) >= _AXES_ARE_INPUTS
    for rank in sorted({len(known[name]) for name in names}) if as_input else ():
        graph.initializer.append(numpy_helper.from_array(np.arange(1, rank), f"inner_axes_{rank}"))
    for number, name in enumerate(names):
        rank = len(known[name])
        inputs = [name, f"inner_axes_{rank}"] if as_input else [name]
        axes: dict[str, Any] = {} if as_input else {"axes": list(range(1, rank))}
        for kind, op_type in (("lowest", "ReduceMin"), ("highest", "ReduceMax")):
            output = f"{kind}_{number}"
            graph.node.append(helper.make_node(op_type, inputs, [output], keepdims=0, **axes))
            graph.output.append(helper.make_tensor_value_info(output, types[name], ["batch"]))
    return probed


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Fused operators would hide the tensors between them.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
