"""A user's ONNX graph between our preprocessing and our pooling: uint8 NHWC pixels in, vectors out.

Written with operators that mean the same from opset 13 on, since the graph keeps its own opset.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from trunkline_export.candidate import session_of
from trunkline_export.pool import Layout
from trunkline_service.errors import ExportError
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.identity import OutputSpec
from trunkline_service.models.triton_config import INPUT_NAME, OUTPUT_NAME

_PREFIX = "trunkline_"
_BATCH = "batch"
_TO_CHANNELS_FIRST = [0, 3, 1, 2]


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


def structure_hash(model: onnx.ModelProto) -> str:
    """32 hexadecimal digits over operators, attributes and wiring; not over weights, names of tools, or words."""
    digest = hashlib.sha256()
    for entry in sorted((entry.domain, entry.version) for entry in model.opset_import):
        digest.update(repr(entry).encode())
    for node in model.graph.node:
        attributes = sorted(_attribute(attribute) for attribute in node.attribute)
        digest.update(repr((node.domain, node.op_type, list(node.input), list(node.output))).encode())
        for attribute in attributes:
            digest.update(attribute)
    return digest.hexdigest()[:32]


def join(
    network: onnx.ModelProto,
    taken: Input,
    preprocess: Preprocess,
    output: OutputSpec,
    layout: Layout,
    path: Path,
) -> int:
    """Writes the whole graph; returns ``dim``.

    Raises:
        ExportError: The pool does not fit the tensor, or the graph can't be run.
    """
    model = onnx.ModelProto()
    model.CopyFrom(network)
    graph = model.graph
    front = _front(taken, preprocess, graph)
    back = _back(output, layout, graph, len(shape_of(network, taken, preprocess, output.node)))
    nodes = [*front, *graph.node, *back]
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.ClearField("input")
    graph.input.append(
        helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [_BATCH, *preprocess.input_size, 3])
    )
    graph.ClearField("value_info")
    graph.ClearField("output")
    graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [_BATCH, None]))
    dim = _dim(model, preprocess)
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = dim
    _tidy(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as exc:
        raise ExportError(f"the joined graph is no valid ONNX: {exc}") from exc
    path.write_bytes(model.SerializeToString(deterministic=True))
    return dim


def _front(taken: Input, preprocess: Preprocess, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """uint8 RGB [N, H, W, 3] to what the network takes."""
    name = f"{_PREFIX}pixels"
    nodes = [helper.make_node("Cast", [INPUT_NAME], [name], to=TensorProto.FLOAT)]
    mean, std = (np.array(values, np.float32) for values in (preprocess.mean, preprocess.std))
    for step, (operator, values) in enumerate(
        (("Div", np.array(255.0, np.float32)), ("Sub", mean), ("Div", std))
    ):
        constant = _constant(graph, f"{_PREFIX}normalise_{step}", values)
        nodes.append(helper.make_node(operator, [name, constant], [f"{_PREFIX}normalised_{step}"]))
        name = f"{_PREFIX}normalised_{step}"
    if taken.channels == "BGR":
        order = _constant(graph, f"{_PREFIX}bgr", np.array([2, 1, 0], np.int64))
        nodes.append(helper.make_node("Gather", [name, order], [f"{_PREFIX}swapped"], axis=3))
        name = f"{_PREFIX}swapped"
    if taken.layout == "NCHW":
        nodes.append(helper.make_node("Transpose", [name], [f"{_PREFIX}nchw"], perm=_TO_CHANNELS_FIRST))
        name = f"{_PREFIX}nchw"
    nodes.append(helper.make_node("Identity", [name], [taken.name]))
    return nodes


def _back(output: OutputSpec, layout: Layout, graph: onnx.GraphProto, rank: int) -> list[onnx.NodeProto]:
    """The network's tensor to vectors, as ``pool.Pool`` does in PyTorch."""
    nodes: list[onnx.NodeProto] = []

    def then(operator: str, inputs: list[str], **attributes: Any) -> str:
        made = f"{_PREFIX}pooled_{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [made], **attributes))
        return made

    def constant(name: str, values: NDArray[np.generic]) -> str:
        return _constant(graph, f"{_PREFIX}{name}", values)

    def places(name: str) -> str:
        """[N, C, H, W] or [N, C, T]."""
        if rank == 3:
            bounds = [
                constant(key, np.array([value], np.int64))
                for key, value in (
                    ("first", layout.prefix_tokens),
                    ("end", np.iinfo(np.int64).max),
                    ("axis", 1),
                )
            ]
            return then("Transpose", [then("Slice", [name, *bounds])], perm=[0, 2, 1])
        return then("Transpose", [name], perm=_TO_CHANNELS_FIRST) if layout.channels_last else name

    def averaged(name: str) -> str:
        return then("Flatten", [then("GlobalAveragePool", [places(name)])], axis=1)

    name = output.node
    match output.pool:
        case "none":
            vectors = then("Identity", [name])
        case "flatten":
            vectors = then("Flatten", [places(name) if rank == 4 else name], axis=1)
        case "avg":
            vectors = averaged(name)
        case "max":
            vectors = then("Flatten", [then("GlobalMaxPool", [places(name)])], axis=1)
        case "gem":
            floor, cube, root = (
                constant(key, np.array(value, np.float32))
                for key, value in (("floor", 1e-6), ("cube", 3.0), ("root", 1 / 3))
            )
            raised = then("Pow", [then("Clip", [places(name), floor]), cube])
            mean = then("Flatten", [then("GlobalAveragePool", [raised])], axis=1)
            vectors = then("Pow", [mean, root])
        case _:
            first = then("Gather", [name, constant("zero", np.array(0, np.int64))], axis=1)
            vectors = first if output.pool == "cls" else then("Concat", [first, averaged(name)], axis=1)
    if output.normalize == "l2":
        vectors = then("LpNormalization", [vectors], axis=1, p=2)
    nodes.append(helper.make_node("Identity", [vectors], [OUTPUT_NAME]))
    return nodes


def shape_of(network: onnx.ModelProto, taken: Input, preprocess: Preprocess, tensor: str) -> tuple[int, ...]:
    """The shape of a network's last tensor for one image, found by running it.

    Raises:
        ExportError: It can't be run.
    """
    height, width = preprocess.input_size
    shape = (1, 3, height, width) if taken.layout == "NCHW" else (1, height, width, 3)
    session = session_of(network.SerializeToString())
    try:
        (found,) = session.run([tensor], {taken.name: np.zeros(shape, np.float32)})
    except Exception as exc:  # ONNX Runtime raises a dozen classes without a common base
        raise ExportError(
            f"the network can't be run on an image of {height} x {width} ({taken.layout}): {exc}; is "
            "crop_size in the preprocess file the network's input size?"
        ) from exc
    return tuple(found.shape)


def _dim(model: onnx.ModelProto, preprocess: Preprocess) -> int:
    session = session_of(model.SerializeToString())
    (found,) = session.run([OUTPUT_NAME], {INPUT_NAME: np.zeros((1, *preprocess.input_size, 3), np.uint8)})
    if found.ndim != 2 or found.dtype != np.float32:
        raise ExportError(
            f"the output gives {found.dtype} {list(found.shape)} for one image; an embedding is float32 "
            "[1, dim]: name another --output, or give --pool"
        )
    return int(found.shape[1])


def _constant(graph: onnx.GraphProto, name: str, values: NDArray[np.generic]) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def _attribute(attribute: AttributeProto) -> bytes:
    bare = AttributeProto()
    bare.CopyFrom(attribute)
    bare.ClearField("doc_string")
    data: bytes = bare.SerializeToString(deterministic=True)
    return data


def _tidy(model: onnx.ModelProto) -> None:
    for message in (model, model.graph, *model.graph.node, *model.graph.initializer):
        message.ClearField("doc_string")
        message.ClearField("metadata_props")
    model.producer_name = "trunkline"
    model.ClearField("producer_version")
    model.graph.name = "backbone"
