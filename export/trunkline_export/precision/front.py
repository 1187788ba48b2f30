"""The normalisation at a graph's front: where it ends, and the same as one operator."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

FOLDED = "normalise"
_AFFINE = ("Add", "Sub", "Mul", "Div")
_CHANNELS = 3
_A_CHANNEL = ((), (1,), (_CHANNELS, 1, 1), (1, _CHANNELS, 1, 1))


def nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Layout, type and normalisation: from the image up to the first other operator, in order."""
    constants = {tensor.name for tensor in graph.initializer}
    reached, found = {graph.input[0].name}, []
    for node in graph.node:
        values = [name for name in node.input if name not in constants]
        if values and reached.issuperset(values) and node.op_type in ("Transpose", "Cast", *_AFFINE):
            reached.update(node.output)
            found.append(node)
    return found


def fold(graph: onnx.GraphProto) -> None:
    """Makes ``(pixels / 255 - mean) / std`` one depthwise convolution with a 1 x 1 kernel, in place.

    ONNX Runtime moves the channels to the end for int8 convolutions, and takes the front along; there,
    subtracting and dividing by three values a pixel takes as long as several convolutions. It does not move
    what is itself a convolution.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    run = _run(graph, constants)
    if not run:
        return
    scale, shift = np.ones(_CHANNELS), np.zeros(_CHANNELS)
    for node in run:
        value = constants[node.input[1]].astype(np.float64).reshape(-1)
        match node.op_type:
            case "Add":
                shift = shift + value
            case "Sub":
                shift = shift - value
            case "Mul":
                scale, shift = scale * value, shift * value
            case _:
                scale, shift = scale / value, shift / value
    names = [f"{FOLDED}.{part}" for part in ("weight", "bias")]
    for name, values in zip(names, (scale.reshape(_CHANNELS, 1, 1, 1), shift), strict=True):
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    inputs, outputs = [run[0].input[0], *names], list(run[-1].output)
    run[0].CopyFrom(helper.make_node("Conv", inputs, outputs, name=FOLDED, group=_CHANNELS))
    for node in run[1:]:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _run(graph: onnx.GraphProto, constants: dict[str, NDArray[np.generic]]) -> list[onnx.NodeProto]:
    """The front's arithmetic in channels-first layout: each node takes the one before and a number a channel."""
    uses = Counter(name for node in graph.node for name in node.input)
    run: list[onnx.NodeProto] = []
    transposed = False
    for node in nodes(graph):
        transposed |= node.op_type == "Transpose"
        value = constants.get(node.input[1]) if transposed and node.op_type in _AFFINE else None
        follows = not run or (node.input[0] == run[-1].output[0] and uses[node.input[0]] == 1)
        if value is not None and value.shape in _A_CHANNEL and follows:
            run.append(node)
        elif run:
            break
    return run
