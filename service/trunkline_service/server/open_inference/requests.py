"""A ModelInferRequest -> images and wishes. Pure functions; nothing here knows of sockets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trunkline_protos.open_inference import inference_pb2
from trunkline_protos.v1 import common_pb2
from trunkline_service.errors import InvalidArgument
from trunkline_service.images.inputs import EncodedImage, ImageInput, PixelTensor
from trunkline_service.models.triton_config import INPUT_NAME, OUTPUT_NAME
from trunkline_service.server.converters import check_count

# Of images. The second is what metadata tells, for it has room for one.
DATATYPES = ("BYTES", "UINT8")
FLOAT_TYPES: dict[str, common_pb2.FloatType] = {
    "FP32": common_pb2.FLOAT_TYPE_FLOAT32,
    "FP16": common_pb2.FLOAT_TYPE_FLOAT16,
}
_LANES: dict[str, common_pb2.Lane] = {
    "interactive": common_pb2.LANE_INTERACTIVE,
    "bulk": common_pb2.LANE_BULK,
}
_TAKEN = ("output_datatype", "lane", "timeout", "expect_space_id")
# Of each element of BYTES, before its bytes.
_LENGTH_BYTES = 4

_Tensor = inference_pb2.ModelInferRequest.InferInputTensor
_Parameters = Mapping[str, inference_pb2.InferParameter]


@dataclass(frozen=True)
class Wishes:
    """What the parameters of a request ask for.

    Attributes:
        datatype: ``FP32`` or ``FP16``, of the embeddings.
        lane: As in our own protocol.
        timeout_s: Seconds the caller will wait; None where it does not say.
        expect_space_id: Of the space that the vectors must lie in; empty for any.
    """

    datatype: str = "FP32"
    lane: common_pb2.Lane = common_pb2.LANE_INTERACTIVE
    timeout_s: float | None = None
    expect_space_id: str = ""


def reference_of(name: str, version: str) -> str:
    """``("flowers", "3")`` -> ``"flowers@3"``; empty for the default model.

    Raises:
        InvalidArgument: A version without a name.
    """
    if version and not name:
        raise InvalidArgument(f"model version {version!r} was asked for without a name; name the model")
    return f"{name}@{version}" if version else name


def wishes_from(parameters: _Parameters) -> Wishes:
    """The parameters of a request.

    Raises:
        InvalidArgument: One that is not taken, or that has a value it can't have.
    """
    for name in parameters:
        if name not in _TAKEN:
            raise InvalidArgument(f"request parameter {name!r} is not taken; there are {', '.join(_TAKEN)}")
    datatype = _word(parameters, "output_datatype", FLOAT_TYPES, "FP32")
    lane = _word(parameters, "lane", _LANES, "interactive")
    return Wishes(datatype, _LANES[lane], _timeout_s(parameters), _text(parameters, "expect_space_id"))


def check_outputs(outputs: Sequence[inference_pb2.ModelInferRequest.InferRequestedOutputTensor]) -> None:
    """Raises InvalidArgument unless the embedding is asked for, as it is, or nothing in particular."""
    for output in outputs:
        if output.name != OUTPUT_NAME:
            raise InvalidArgument(f"there is no output {output.name!r}; the only one is {OUTPUT_NAME!r}")
        _check_no_parameters(output.parameters, f"output {OUTPUT_NAME!r}")


def images_from(request: inference_pb2.ModelInferRequest, most: int) -> list[ImageInput]:
    """The images of a request, unchecked: what is wrong with one is known when it is decoded.

    Raises:
        InvalidArgument: Another input than images, a shape that its contents don't have, or more than ``most``.
    """
    tensor, raw = _only_input(request)
    shape = tuple(tensor.shape)
    if tensor.datatype not in DATATYPES:
        raise InvalidArgument(
            f"input {INPUT_NAME!r} has datatype {tensor.datatype!r}; send BYTES (encoded images) or UINT8 (pixels)"
        )
    pixels = tensor.datatype == "UINT8"
    if any(size < 0 for size in shape) or not (_is_pixels(shape) if pixels else _is_list(shape)):
        takes = "[N, height, width, 3]" if pixels else "[N] or [N, 1]"
        raise InvalidArgument(
            f"input {INPUT_NAME!r} has shape {list(shape)}; {tensor.datatype} takes {takes}"
        )
    check_count(shape[0], most)
    if pixels:
        return _tensors(_pixel_bytes(tensor, raw), shape)
    encoded = list(tensor.contents.bytes_contents) if raw is None else _elements(raw, shape[0])
    if len(encoded) != shape[0]:
        raise InvalidArgument(
            f"input {INPUT_NAME!r} has shape {list(shape)} and {len(encoded)} elements in bytes_contents; "
            "send one element for each image"
        )
    return [EncodedImage(data) for data in encoded]


def _only_input(request: inference_pb2.ModelInferRequest) -> tuple[_Tensor, bytes | None]:
    """The input, and its raw contents where it has such."""
    names = [tensor.name for tensor in request.inputs]
    if names != [INPUT_NAME]:
        raise InvalidArgument(f"the inputs are {names}; send exactly one, named {INPUT_NAME!r}")
    tensor = request.inputs[0]
    _check_no_parameters(tensor.parameters, f"input {INPUT_NAME!r}")
    raw = request.raw_input_contents
    if not raw:
        return tensor, None
    if len(raw) != 1:
        raise InvalidArgument(f"{len(raw)} raw_input_contents for one input; send one entry for each input")
    if tensor.HasField("contents"):
        raise InvalidArgument(
            f"input {INPUT_NAME!r} has contents, and there are raw_input_contents too; send one of the two"
        )
    return tensor, raw[0]


def _is_list(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _is_pixels(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[3] == 3


def _elements(raw: bytes, count: int) -> list[bytes]:
    """Splits raw BYTES at the lengths in it."""
    found: list[bytes] = []
    at = 0
    for index in range(count):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start], "little")
        if at > len(raw):
            raise InvalidArgument(
                f"raw_input_contents ends within element {index} of {count}; before each image stands its "
                "length, 4 bytes little-endian"
            )
        found.append(raw[start:at])
    if at != len(raw):
        raise InvalidArgument(
            f"raw_input_contents has {len(raw) - at} bytes after the {count} images of its shape; "
            "send the shape that it has"
        )
    return found


def _pixel_bytes(tensor: _Tensor, raw: bytes | None) -> bytes:
    shape = list(tensor.shape)
    wanted = math.prod(shape)
    found = len(tensor.contents.uint_contents) if raw is None else len(raw)
    if found != wanted:
        where = "uint_contents" if raw is None else "raw_input_contents"
        raise InvalidArgument(
            f"input {INPUT_NAME!r} of shape {shape} takes {wanted} values; {where} has {found}"
        )
    if raw is not None:
        return raw
    values = np.fromiter(tensor.contents.uint_contents, np.uint32, wanted)
    if wanted and values.max() > 255:
        raise InvalidArgument(f"uint_contents has {values.max()}; UINT8 goes to 255")
    return values.astype(np.uint8).tobytes()


def _tensors(data: bytes, shape: tuple[int, ...]) -> list[ImageInput]:
    count, *one = shape
    size = math.prod(one)
    return [
        PixelTensor(data[index * size : (index + 1) * size], "uint8", tuple(one)) for index in range(count)
    ]


def _check_no_parameters(parameters: _Parameters, what: str) -> None:
    for name in parameters:
        raise InvalidArgument(
            f"{what} has parameter {name!r}; it takes none: shared memory and classification are not served"
        )


def _text(parameters: _Parameters, name: str, default: str = "") -> str:
    if name not in parameters:
        return default
    if parameters[name].WhichOneof("parameter_choice") != "string_param":
        raise InvalidArgument(f"request parameter {name!r} is no string; send it as string_param")
    return parameters[name].string_param


def _word(parameters: _Parameters, name: str, words: Mapping[str, object], default: str) -> str:
    word = _text(parameters, name, default)
    if word not in words:
        raise InvalidArgument(f"request parameter {name!r} is {word!r}; there are {', '.join(words)}")
    return word


def _timeout_s(parameters: _Parameters) -> float | None:
    """Microseconds, as Triton counts them; 0 stands for no limit there."""
    if "timeout" not in parameters:
        return None
    parameter = parameters["timeout"]
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in ("int64_param", "uint64_param"):
        raise InvalidArgument("request parameter 'timeout' is no integer; send microseconds as int64_param")
    microseconds: int = getattr(parameter, kind)
    if microseconds < 0:
        raise InvalidArgument(f"request parameter 'timeout' is {microseconds}; send microseconds from 0")
    return microseconds / 1e6 if microseconds else None
