"""``onnx:PATH``: a network that exists only as ONNX, cut at a tensor that the user names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from trunkline_export.onnx_join import Input, shape_of
from trunkline_export.onnx_network import Given, OnnxNetwork
from trunkline_export.pool import Layout
from trunkline_export.sources.given import read_given
from trunkline_export.sources.onnx_cut import cut_at, tensor_named, unpin_batch
from trunkline_service.errors import ExportError, InvalidArgument, ModelFileError, UnknownBackbone
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.identity import OutputSpec, file_sha256

_OLDEST_OPSET = 13
_OWN_FIELDS = ("layout", "channels", "prefix_tokens", "channels_last")


@dataclass(frozen=True)
class OnnxRequest:
    """What cannot be read from the file.

    Attributes:
        output: The node or tensor to cut at.
        preprocess: A JSON file: the fields of a card's ``preprocess``, and where they differ from what is
            usual ``layout`` (NCHW or NHWC), ``channels`` (RGB or BGR), ``prefix_tokens`` and ``channels_last``.
        pool: One of ``pool.POOLS``; without it ``avg`` for maps and tokens, ``none`` for vectors.
        normalize: ``none`` or ``l2``.
        reference: A folder of images with ``vectors.npy``, or None: then the card says ``unverified``.
    """

    output: str | None
    preprocess: Path | None
    pool: str | None = None
    normalize: str = "none"
    reference: Path | None = None


def load_onnx(path: Path, request: OnnxRequest) -> OnnxNetwork:
    """Reads and cuts the network.

    Raises:
        UnknownBackbone: There is no such file.
        InvalidArgument: The preprocess file or the output is missing, or can't be used.
        ExportError: The file is no ONNX network of one image input, or has no such output.
    """
    model = _read(path)
    taken, preprocess, layout = _described(model, request.preprocess, path)
    if request.output is None:
        raise InvalidArgument(
            f"onnx:{path.name} needs --output NODE, the tensor that is the feature; the last ones of the "
            f"graph are {', '.join(_last_tensors(model))}"
        )
    tensor = tensor_named(model, request.output)
    network = cut_at(model, taken.name, tensor)
    unpin_batch(network)
    given: Given | None = read_given(request.reference) if request.reference is not None else None
    return OnnxNetwork(
        source=f"onnx:{path.name}",
        name=path.stem,
        graph=network,
        input=taken,
        preprocess=preprocess,
        output=OutputSpec(
            tensor, request.pool or _usual_pool(network, tensor, preprocess, taken), request.normalize
        ),
        layout=layout,
        weights=f"{path.name} (sha256 {file_sha256(path)[:12]})",
        given=given,
    )


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise UnknownBackbone(f"onnx:{path}: there is no such file")
    try:
        model = onnx.load_model(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError) as exc:
        first = next(iter(str(exc).strip().splitlines()), type(exc).__name__)
        raise ExportError(f"onnx:{path.name} is no valid ONNX file: {first}") from exc
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST_OPSET:
        raise ExportError(
            f"onnx:{path.name} is written in operator set {opset}; {_OLDEST_OPSET} or newer is needed: convert it "
            "with onnx.version_converter, or export it again with a newer opset"
        )
    return model


def _described(model: onnx.ModelProto, file: Path | None, path: Path) -> tuple[Input, Preprocess, Layout]:
    if file is None:
        raise InvalidArgument(
            f"onnx:{path.name} needs --preprocess FILE: a JSON object with the fields of a card's preprocess "
            "(resize, resize_size, interpolation, crop_size, mean, std); 'trunkline models show NAME --json' "
            "shows one"
        )
    fields = _fields(file)
    entry = _image_input(model, path.name)
    layout = fields.get("layout") or _layout_of(entry, path.name)
    channels = fields.get("channels", "RGB")
    tokens, last = fields.get("prefix_tokens", 0), fields.get("channels_last", layout == "NHWC")
    for name, value, known in (
        ("layout", layout, ("NCHW", "NHWC")),
        ("channels", channels, ("RGB", "BGR")),
        ("channels_last", last, (True, False)),
    ):
        if value not in known:
            raise InvalidArgument(f"{file.name}: {name} is {value!r}; it must be one of {known}")
    if type(tokens) is not int or tokens < 0:
        raise InvalidArgument(f"{file.name}: prefix_tokens is {tokens!r}; it must be a number from 0 on")
    plain = {key: value for key, value in fields.items() if key not in _OWN_FIELDS}
    try:
        preprocess = Preprocess.from_json(plain)
    except ModelFileError as exc:
        raise InvalidArgument(f"{file.name}: {exc.message}") from exc
    return Input(entry.name, layout, channels), preprocess, Layout(tokens, last)


def _fields(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InvalidArgument(f"--preprocess {file.name} can't be read as JSON: {exc}") from exc
    if not isinstance(fields, dict):
        raise InvalidArgument(f"--preprocess {file.name} holds no JSON object")
    return fields


def _image_input(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    shown = ", ".join(f"{entry.name} {_dims(entry)}" for entry in inputs) or "none"
    if len(inputs) != 1 or len(_dims(inputs[0])) != 4:
        raise ExportError(
            f"onnx:{name} must take one image batch [N, 3, H, W] or [N, H, W, 3]; it takes {shown}"
        )
    if inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ExportError(f"onnx:{name} must take float32 pixels; its input {shown} is of another type")
    return inputs[0]


def _layout_of(entry: onnx.ValueInfoProto, name: str) -> str:
    dims = _dims(entry)
    if (dims[1] == 3) == (dims[3] == 3):
        raise InvalidArgument(
            f"onnx:{name} takes {entry.name} {dims}, which does not say where the channels lie; add "
            '"layout": "NCHW" or "NHWC" to the preprocess file'
        )
    return "NCHW" if dims[1] == 3 else "NHWC"


def _dims(entry: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim]


def _last_tensors(model: onnx.ModelProto, count: int = 8) -> list[str]:
    return [name for node in list(model.graph.node)[-count:] for name in node.output if name]


def _usual_pool(network: onnx.ModelProto, tensor: str, preprocess: Preprocess, taken: Input) -> str:
    return "none" if len(shape_of(network, taken, preprocess, tensor)) == 2 else "avg"
