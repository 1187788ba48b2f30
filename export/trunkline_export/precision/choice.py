"""Which operators are worth int8: those with weights, and what lies between two of them.

ONNX Runtime's CPU has int8 kernels for convolutions and matrix products that are several times as fast. The
rest gains nothing by itself, and loses: softmax, LayerNorm and GELU in int8 are slower and coarser. But
between two int8 convolutions a float operator costs two conversions, so there it goes along.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import onnx

from trunkline_export.precision import front, ranges

# A convolution's int8 kernel writes int8; a product's writes float32 as readily, which is finer.
CONVOLUTIONS = ("Conv",)
PRODUCTS = ("MatMul", "Gemm")
# These compute in int8, from int8.
_BINARY = ("Add", "Mul", "Concat")
# These need no arithmetic, or are done by the operator before them.
_PASSING = (
    "Relu", "Clip", "LeakyRelu", "Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool",
    "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split",
)  # fmt: skip
# These bound what the operator before them writes, so its int8 needs no room for the rest.
_BOUNDING = ("Relu", "Clip")
# Dimensions of a product's weights; of more, one matrix an image part, there is no int8 kernel.
_MATRIX = 2


def weighted(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The operators that int8 is for: convolutions and products with constant weights and biases, in order."""
    constants = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    skipped = {node.name for node in front.nodes(graph)} | {front.FOLDED}
    return [
        node
        for node in graph.node
        if node.op_type in CONVOLUTIONS + PRODUCTS
        and node.name not in skipped
        and node.input[0] not in constants
        and all(name in constants for name in node.input[1:])
        and (node.op_type != "MatMul" or constants[node.input[1]] == _MATRIX)
    ]


def between(graph: onnx.GraphProto, chosen: Collection[str]) -> list[str]:
    """The operators that go along, by name.

    An operator goes along if all it reads is int8 already, and if somebody after it wants int8.

    Args:
        graph: Its nodes have names, and stand in topological order.
        chosen: Names of the operators with weights that become int8.
    """
    constants = {tensor.name for tensor in graph.initializer}
    ours = {out for node in graph.node for out in node.output if _writes_int8(node, chosen)}
    candidates: list[onnx.NodeProto] = []
    for node in graph.node:
        values = [name for name in node.input if name and name not in constants]
        if node.op_type in _BINARY and len(values) < 2:
            continue
        if node.op_type in _BINARY + _PASSING and values and ours.issuperset(values):
            ours.update(node.output)
            candidates.append(node)
    wanted = {name for node in graph.node if node.name in chosen for name in node.input}
    written = {out for node in graph.node if _writes_int8(node, chosen) for out in node.output}
    kept = []
    for node in reversed(candidates):
        bounds = node.op_type in _BOUNDING and node.input[0] in written
        if bounds or wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node.name)
    return kept[::-1]


def embeddings(graph: onnx.GraphProto, chosen: Collection[str]) -> list[str]:
    """Which chosen convolutions read the pixels while nothing after them is int8, by name.

    Such is the patch embedding of a vision transformer. It is a small part of the work, and a step of its
    int8 output is large beside the differences that everything after it lives on.
    """
    along = {*between(graph, chosen), *chosen}
    pixels = {out for node in front.nodes(graph) for out in node.output}
    pixels |= {out for node in graph.node if node.name == front.FOLDED for out in node.output}
    return [
        node.name
        for node in graph.node
        if node.name in chosen
        and node.op_type in CONVOLUTIONS
        and node.input[0] in pixels
        and not _read_as_int8(graph, node.output[0], along)
    ]


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """How many an image each operator with weights does, by name; 0 where a shape is unknown."""
    known = ranges.shapes(model)
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    counts = {}
    for node in weighted(model.graph):
        weights = dims[node.input[1]]
        outputs = math.prod(known.get(node.output[0], (0, 0))[1:])
        summed = weights[1:] if node.op_type in CONVOLUTIONS else known.get(node.input[0], (0,))[-1:]
        counts[node.name] = outputs * math.prod(summed)
    return counts


def _writes_int8(node: onnx.NodeProto, chosen: Collection[str]) -> bool:
    return node.op_type in CONVOLUTIONS and node.name in chosen


def _read_as_int8(graph: onnx.GraphProto, name: str, along: Collection[str]) -> bool:
    """Whether a tensor is read by an int8 operator; one that only bounds it hands the question on."""
    for node in graph.node:
        if name in node.input:
            bounds = node.op_type in _BOUNDING
            if (bounds and _read_as_int8(graph, node.output[0], along)) or (
                not bounds and node.name in along
            ):
                return True
    return False
