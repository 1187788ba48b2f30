"""Computes once what an ONNX network would compute for every batch from nothing but sizes.

Beside what ``batch_shapes.settle`` does for reshapes: PyTorch's older exporter reads a head's width from a
shape to scale attention by its root. ONNX Runtime puts such nodes on the CPU, which a CUDA session of ours
refuses (contract 6).
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from trunkline_export.gate.candidate import session_of
from trunkline_export.joining.walk import keep_used, per_image, read_by

# As in ``batch_shapes``: what is the same for both holds for any batch.
_SIZES = (2, 3)


def fold_constants(model: onnx.ModelProto, sample: tuple[int, int, int]) -> None:
    """Makes initializers of what does not depend on pixels, nor on how many images there are; in place.

    Args:
        model: A graph of one uint8 input [batch, height, width, 3], without inner graphs.
        sample: (height, width, 3).
    """
    graph = model.graph
    images = per_image(graph)
    constants = {tensor.name for tensor in graph.initializer}
    read = [name for node in graph.node if images.intersection(node.output) for name in read_by(node)]
    names = [name for name in dict.fromkeys(read) if name not in images and name not in constants]
    if not names:
        return
    first, second = (_values(model, names, (size, *sample)) for size in _SIZES)
    for name, values, others in zip(names, first, second, strict=True):
        if np.array_equal(values, others):
            graph.initializer.append(numpy_helper.from_array(values, f"{name}/folded"))
            for node in graph.node:
                node.input[:] = [f"{name}/folded" if used == name else used for used in node.input]
    keep_used(graph)


def _values(model: onnx.ModelProto, names: list[str], shape: tuple[int, ...]) -> list[NDArray[np.generic]]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.ClearField("output")
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = session_of(probe.SerializeToString())
    values: list[NDArray[np.generic]] = session.run(
        None, {model.graph.input[0].name: np.zeros(shape, np.uint8)}
    )
    return values
