"""Walks over ONNX graphs, and over those inside If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The branches of an If, or the body of a Loop or a Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Names of tensors that a node reads, also from within its inner graphs."""
    yield from (name for name in node.input if name)
    for graph in inner_graphs(node):
        for inner in graph.node:
            yield from read_by(inner)
        yield from (entry.name for entry in graph.output)


def per_image(graph: onnx.GraphProto) -> set[str]:
    """Names of the tensors that are computed from the values of the graph's input, rather than from its shape."""
    found = {graph.input[0].name}
    for node in graph.node:
        if node.op_type not in ("Shape", "Size") and found.intersection(read_by(node)):
            found.update(node.output)
    return found


def keep_used(graph: onnx.GraphProto) -> None:
    """Takes out nodes and initializers that no output needs, in place."""
    needed, kept = {entry.name for entry in graph.output}, []
    # Nodes stand in topological order, so one walk from the end sees every use before the node itself.
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(read_by(node))
            kept.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    for part in ("node", "initializer"):
        graph.ClearField(part)
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)


def prefixed(graph: onnx.GraphProto, prefix: str) -> None:
    """Puts a prefix before the name of every tensor, in place, so that none can be one of ours."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{prefix}{name}" if name else "" for name in names]
        for inner in inner_graphs(node):
            prefixed(inner, prefix)
    for named in (graph.input, graph.output, graph.initializer, graph.value_info):
        for entry in named:
            entry.name = f"{prefix}{entry.name}"


def strip(graph: onnx.GraphProto) -> None:
    """Takes out what exporters write for people: words, stack traces, paths; in place."""
    for message in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        message.ClearField("doc_string")
        message.ClearField("metadata_props")
    # Shapes of inner values are inferred again by whoever loads the file.
    graph.ClearField("value_info")
    for node in graph.node:
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
        for inner in inner_graphs(node):
            strip(inner)
