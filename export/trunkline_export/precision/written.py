"""A converted graph as a file: nodes in order, nothing in it about tools or this machine."""

from __future__ import annotations

import heapq
from collections import defaultdict
from pathlib import Path

import onnx

from trunkline_service.errors import ExportError


def write(model: onnx.ModelProto, path: Path) -> None:
    """Orders, tidies and checks a graph, and writes it; the same graph gives the same bytes.

    Raises:
        ExportError: It is no valid ONNX.
    """
    _order(model.graph)
    _tidy(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        raise ExportError(f"the converted graph is no valid ONNX: {exc}") from exc
    path.write_bytes(model.SerializeToString(deterministic=True))


def _order(graph: onnx.GraphProto) -> None:
    """Puts each node behind those whose results it reads, and otherwise where it stood."""
    maker = {out: number for number, node in enumerate(graph.node) for out in node.output}
    readers, missing = defaultdict(list), {}
    for number, node in enumerate(graph.node):
        makers = {maker[name] for name in node.input if name in maker}
        missing[number] = len(makers)
        for other in makers:
            readers[other].append(number)
    ready = [number for number, count in missing.items() if count == 0]
    heapq.heapify(ready)
    ordered = []
    while ready:
        number = heapq.heappop(ready)
        ordered.append(graph.node[number])
        for reader in readers[number]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heapq.heappush(ready, reader)
    graph.ClearField("node")
    graph.node.extend(ordered)


def _tidy(model: onnx.ModelProto) -> None:
    model.producer_name = "trunkline"
    for field in ("producer_version", "metadata_props", "doc_string"):
        model.ClearField(field)
    model.graph.name = "backbone"
    # Shapes of inner values are inferred again by whoever loads the file.
    model.graph.ClearField("value_info")
    used = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    for entry in [entry for entry in model.opset_import if entry.domain not in ("", "ai.onnx", *used)]:
        model.opset_import.remove(entry)
