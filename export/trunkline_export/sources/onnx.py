"""``onnx:PATH``: a network that exists only as ONNX, cut at a tensor that the user names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, EncodeError
from onnx import TensorProto

from trunkline_export.cutting.layout import Tokens, layout_of
from trunkline_export.cutting.pool import Layout
from trunkline_export.joining.cut import cut_at, last_tensors, lift_constants, tensor_named
from trunkline_export.joining.join import Input, shape_of
from trunkline_export.joining.network import Given, OnnxNetwork
from trunkline_export.joining.pool import Feature
from trunkline_export.sources.given import read_given
from trunkline_export.sources.onnx_transform import Described, read_described
from trunkline_service.errors import ExportError, InvalidArgument, UnknownBackbone
from trunkline_service.models.identity import OutputSpec, file_sha256

_OLDEST_OPSET = 13
# A protobuf message ends at 2 GiB; some is left for the graph.
_MOST_BYTES = 2**31 - 2**24


@dataclass(frozen=True)
class OnnxRequest:
    """What cannot be read from the file.

    Attributes:
        output: The node or tensor to cut at.
        preprocess: A JSON file; see ``onnx_transform.read_described``.
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
        InvalidArgument: The preprocess file, the output or the reference is missing, or can't be used.
        ExportError: The file is no float32 network of one RGB input, or has no such output.
    """
    model = _read(path)
    entry = _image_input(model, path.name)
    described = read_described(request.preprocess, path.name, _dims(entry))
    if request.output is None:
        raise InvalidArgument(
            f"onnx:{path.name} needs --output NODE, the tensor that is the feature; the last ones of the "
            f"graph are {last_tensors(model)}"
        )
    tensor = tensor_named(model, request.output)
    network = cut_at(model, entry.name, tensor)
    taken = Input(entry.name, described.layout, described.channels)
    shape = shape_of(network, taken, described.preprocess, tensor)
    output = OutputSpec(tensor, request.pool or ("none" if len(shape) == 1 else "avg"), request.normalize)
    given: Given | None = read_given(request.reference) if request.reference is not None else None
    return OnnxNetwork(
        source=f"onnx:{path.name}",
        name=path.stem,
        graph=network,
        input=taken,
        preprocess=described.preprocess,
        feature=Feature(output, shape, _lying(tensor, shape, described)),
        weights=f"{path.name} (sha256 {file_sha256(path)[:12]})",
        given=given,
    )


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise UnknownBackbone(
            f"onnx:{path}: there is no such file; write onnx:PATH, e.g. onnx:nets/mine.onnx"
        )
    try:
        model = onnx.load_model(path, format="protobuf")
        held = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
        if held > _MOST_BYTES:
            raise ExportError(
                f"onnx:{path.name} holds {held:,} bytes of weights; one published file holds 2 GiB at most"
            )
        onnx.checker.check_model(model)
        _check_opset(model, path.name)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
    except (DecodeError, EncodeError, onnx.checker.ValidationError, OSError, ValueError) as exc:
        first = next(iter(str(exc).strip().splitlines()), type(exc).__name__)
        raise ExportError(f"onnx:{path.name} is no valid ONNX file: {first}") from exc
    lift_constants(model)
    return model


def _check_opset(model: onnx.ModelProto, name: str) -> None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST_OPSET:
        raise ExportError(
            f"onnx:{name} is written in operator set {opset}; {_OLDEST_OPSET} or newer is needed: convert it "
            "with onnx.version_converter, or export it again with a newer opset"
        )


def _image_input(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    shown = ", ".join(f"{entry.name} {_dims(entry)}" for entry in inputs) or "none"
    if len(inputs) != 1 or len(_dims(inputs[0])) != 4:
        raise ExportError(
            f"onnx:{name} must take one image batch [N, 3, H, W] or [N, H, W, 3]; it takes {shown}"
        )
    kind = inputs[0].type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        raise ExportError(
            f"onnx:{name} must take float32 pixels; its input {shown} is {TensorProto.DataType.Name(kind)}: "
            "export it again with a float32 input"
        )
    return inputs[0]


def _dims(entry: onnx.ValueInfoProto) -> list[int | str]:
    """Sizes; names, or ``?``, where they are free."""
    return [dim.dim_param or dim.dim_value or "?" for dim in entry.type.tensor_type.shape.dim]


def _lying(tensor: str, shape: tuple[int, ...], described: Described) -> Layout:
    """How a tensor of this shape lies; where that means nothing, the same for all, so that it makes no
    other space."""
    if len(shape) != 3:
        return Layout(prefix_tokens=described.prefix_tokens if len(shape) == 2 else 0)
    if described.channels_last is not None:
        return Layout(channels_last=described.channels_last)
    try:
        return layout_of(tensor, shape, described.preprocess.input_size, Tokens(), "avg")
    except ExportError as exc:
        raise InvalidArgument(
            f"the output {tensor!r} gives {list(shape)} for an image, which does not say where its channels are; "
            'add "channels_last": true or false to the preprocess file'
        ) from exc
