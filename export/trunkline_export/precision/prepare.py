"""A file as the conversions read it: constants folded, nodes named, inner types known."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx
from onnx import shape_inference

from trunkline_service.errors import ExportError


def load(source: Path) -> onnx.ModelProto:
    """The graph of a file, as it stands but for names and types.

    Raises:
        ExportError: It can't be read.
    """
    try:
        model: onnx.ModelProto = shape_inference.infer_shapes(onnx.load_model(source), data_prop=True)
    except Exception as exc:  # protobuf's and ONNX's errors have no common base
        raise ExportError(f"{source.name} can't be read as ONNX: {exc}") from exc
    _name(model.graph)
    return model


def load_folded(source: Path) -> onnx.ModelProto:
    """The graph after ONNX Runtime's basic optimisations, e.g. batch normalisation inside its convolution.

    Raises:
        ExportError: It can't be read.
    """
    import onnxruntime as ort

    with tempfile.TemporaryDirectory(prefix="trunkline-precision-") as folder:
        folded = Path(folder) / "folded.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        try:
            ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # ONNX Runtime raises a dozen classes without a common base
            raise ExportError(f"ONNX Runtime can't load {source.name}: {exc}") from exc
        return load(folded)


def _name(graph: onnx.GraphProto) -> None:
    """Gives every node a name of its own, in place."""
    counts = Counter(node.name for node in graph.node)
    for number, node in enumerate(graph.node):
        if not node.name or counts[node.name] > 1:
            node.name = f"{node.op_type}_{number}"
