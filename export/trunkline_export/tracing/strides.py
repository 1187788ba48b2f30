"""Takes gathers by stride out of a traced graph, where they change nothing.

PyTorch's exporter writes ``as_strided`` wherever it believes that a tensor's memory layout matters, as a
gather over the flattened tensor with indices computed from the batch size at run time. ONNX has no memory
layouts: most of those gathers give their input back, value for value.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from trunkline_export.gate.candidate import session_of

# Two batch sizes: indices are linear in the batch, so what is the identity for both is so for all.
_BATCHES = (2, 3)


def drop_restriding(model: onnx.ModelProto, sample: tuple[int, int, int]) -> None:
    """Replaces gathers by stride that give their input back by that input, in place.

    Args:
        model: A graph of one uint8 input [batch, height, width, 3].
        sample: (height, width, 3).
    """
    found = _candidates(model.graph)
    if not found:
        return
    for gathered, original in _identities(model, found, sample):
        for node in model.graph.node:
            for position, name in enumerate(node.input):
                if name == gathered:
                    node.input[position] = original


def _candidates(graph: onnx.GraphProto) -> list[tuple[str, str]]:
    """Pairs (output of a gather over a flattened tensor with computed indices, that tensor)."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        if node.op_type != "Gather" or node.input[1] in constants:
            continue
        flat = makers.get(node.input[0])
        if flat is None or flat.op_type != "Reshape" or flat.input[1] not in constants:
            continue
        if numpy_helper.to_array(constants[flat.input[1]]).tolist() == [-1]:
            found.append((node.output[0], flat.input[0]))
    return found


def _identities(
    model: onnx.ModelProto, pairs: list[tuple[str, str]], sample: tuple[int, int, int]
) -> list[tuple[str, str]]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = [name for pair in pairs for name in pair]
    probe.graph.ClearField("output")
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names))
    session = session_of(probe.SerializeToString())
    random = np.random.default_rng(0)
    same = dict.fromkeys(pairs, True)
    for batch in _BATCHES:
        pixels = random.integers(0, 256, (batch, *sample), dtype=np.uint8)
        values: list[NDArray[np.float32]] = session.run(names, {model.graph.input[0].name: pixels})
        for pair, gathered, original in zip(pairs, values[::2], values[1::2], strict=True):
            same[pair] &= gathered.shape == original.shape and np.array_equal(gathered, original)
    return [pair for pair, is_same in same.items() if is_same]
