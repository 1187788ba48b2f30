"""A user's ONNX graph between our preprocessing and our pooling: uint8 NHWC pixels in, vectors out.

Written with operators that mean the same from opset 13 on, since the graph keeps its own opset; and with
such as ONNX Runtime has for GPUs too, since the service refuses a model that falls back to the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trunkline_export.gate.candidate import session_of
from trunkline_export.joining.batch import BATCH, fixed_batch, free_batch
from trunkline_export.joining.constants import fold_constants
from trunkline_export.joining.pool import Feature, pooling
from trunkline_export.joining.walk import inner_graphs, prefixed, strip
from trunkline_export.tracing.batch_shapes import settle
from trunkline_service.errors import ExportError
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.triton_config import INPUT_NAME, OUTPUT_NAME

_OURS = "trunkline/"
_THEIRS = "network/"


@dataclass(frozen=True)
class Input:
    """What a network takes.

    Attributes:
        name: Of the input tensor.
        layout: ``NCHW`` or ``NHWC``.
        channels: ``RGB`` or ``BGR``.
    """

    name: str
    layout: str
    channels: str

    def shape(self, count: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Of so many images of (height, width)."""
        height, width = size
        return (count, 3, height, width) if self.layout == "NCHW" else (count, height, width, 3)


def join(network: onnx.ModelProto, taken: Input, preprocess: Preprocess, feature: Feature, path: Path) -> int:
    """Writes the whole graph; returns ``dim``.

    Raises:
        ExportError: The graph can't be run, or not at other batch sizes.
    """
    model = onnx.ModelProto()
    model.CopyFrom(network)
    pinned = fixed_batch(model)
    free_batch(model, taken.shape(pinned or 1, preprocess.input_size))
    graph = model.graph
    prefixed(graph, _THEIRS)
    front = _front(taken, preprocess, graph)
    back, constants = pooling(feature, f"{_THEIRS}{feature.output.node}", OUTPUT_NAME)
    graph.initializer.extend(constants)
    nodes = [*front, *graph.node, *back]
    for part in ("node", "input", "output"):
        graph.ClearField(part)
    graph.node.extend(nodes)
    graph.input.append(
        helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [BATCH, *preprocess.input_size, 3])
    )
    graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [BATCH, None]))
    dim = _dim(model, preprocess, pinned)
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = dim
    # Inner graphs may read tensors that nobody else does, which would be taken for unused.
    if not any(True for node in graph.node for _ in inner_graphs(node)):
        settle(model, (*preprocess.input_size, 3))
        fold_constants(model, (*preprocess.input_size, 3))
    _tidy(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as exc:
        raise ExportError(f"the joined graph is no valid ONNX: {exc}") from exc
    path.write_bytes(model.SerializeToString(deterministic=True))
    return dim


def shape_of(network: onnx.ModelProto, taken: Input, preprocess: Preprocess, tensor: str) -> tuple[int, ...]:
    """The shape of a network's last tensor, without the batch, found by running it.

    Raises:
        ExportError: It can't be run, or gives something else than one float32 tensor an image.
    """
    count = fixed_batch(network) or 1
    shape = taken.shape(count, preprocess.input_size)
    session = session_of(network.SerializeToString())
    try:
        (found,) = session.run([tensor], {taken.name: np.zeros(shape, np.float32)})
    except Exception as exc:  # ONNX Runtime raises a dozen classes without a common base
        raise ExportError(
            f"the network can't be run on an input of {list(shape)} ({taken.layout}); is crop_size in the "
            f"preprocess file the network's input size? {_reason(exc)}"
        ) from exc
    if not isinstance(found, np.ndarray) or found.dtype != np.float32 or found.shape[:1] != (count,):
        gives = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else "no tensor"
        raise ExportError(
            f"the output {tensor!r} gives {gives} for a batch of {count}; a feature is float32 [{count}, ...]: "
            "name another --output"
        )
    return tuple(found.shape[1:])


def _front(taken: Input, preprocess: Preprocess, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """uint8 RGB [N, H, W, 3] to what the network takes; in the order of ``graph.Normalised``, so that what
    is done to the one at lower precisions is done to the other."""
    nodes: list[onnx.NodeProto] = []

    def then(operator: str, *constants: NDArray[np.generic], **attributes: Any) -> None:
        before = nodes[-1].output[0] if nodes else INPUT_NAME
        name = f"front_{len(nodes)}"
        inputs = [before, *(_constant(graph, f"{name}_constant", values) for values in constants)]
        nodes.append(helper.make_node(operator, inputs, [f"{_OURS}{name}"], **attributes))

    axis, shape = (1, (1, 3, 1, 1)) if taken.layout == "NCHW" else (3, (3,))
    mean, std = (np.array(values, np.float32).reshape(shape) for values in (preprocess.mean, preprocess.std))
    if taken.layout == "NCHW":
        then("Transpose", perm=[0, 3, 1, 2])
    then("Cast", to=TensorProto.FLOAT)
    then("Div", np.array(255.0, np.float32))
    then("Sub", mean)
    then("Div", std)
    if taken.channels == "BGR":
        then("Gather", np.array([2, 1, 0], np.int64), axis=axis)
    nodes[-1].output[0] = f"{_THEIRS}{taken.name}"
    return nodes


def _dim(model: onnx.ModelProto, preprocess: Preprocess, pinned: int | None) -> int:
    """Length of a vector; runs two images, since one says nothing of batches."""
    session = session_of(model.SerializeToString())
    pixels = np.zeros((2, *preprocess.input_size, 3), np.uint8)
    try:
        (found,) = session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
    except Exception as exc:  # as above
        raise ExportError(f"{_not_two(pinned)}. {_reason(exc)}") from exc
    if len(found) != len(pixels):
        raise ExportError(f"{_not_two(pinned)}. It gives {len(found)} vectors")
    return int(found.shape[1])


def _not_two(pinned: int | None) -> str:
    was = "" if pinned is None else f"; it was written for batches of {pinned}"
    return (
        f"the network can't run a batch of 2{was}. Export it again with a free batch size (dynamic_axes or "
        "dynamic_shapes in PyTorch, None in Keras), or name an --output whose first axis is the batch"
    )


def _reason(exc: Exception) -> str:
    return " ".join(str(exc).split())


def _constant(graph: onnx.GraphProto, name: str, values: NDArray[np.generic]) -> str:
    graph.initializer.append(numpy_helper.from_array(values, f"{_OURS}{name}"))
    return f"{_OURS}{name}"


def _tidy(model: onnx.ModelProto) -> None:
    strip(model.graph)
    about = ("doc_string", "metadata_props", "producer_version", "domain", "model_version", "training_info")
    for part in about:
        model.ClearField(part)
    model.producer_name = "trunkline"
    model.graph.name = "backbone"
