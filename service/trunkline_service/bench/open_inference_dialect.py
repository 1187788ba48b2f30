"""The Open Inference Protocol v2, as Trunkline, Triton and others speak it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from trunkline_protos.open_inference import inference_pb2, inference_pb2_grpc
from trunkline_service.bench.dialect import ASKING_S, Dialect, Served
from trunkline_service.bench.tape import OK
from trunkline_service.errors import InvalidArgument
from trunkline_service.images.inputs import EncodedImage, ImageInput

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
# Of Trunkline's servers: all that the input takes, for the protocol's metadata name one.
_DATATYPES_KEY = "input_datatypes"


def ask(channel: grpc.Channel, model: str) -> Dialect:
    """Asks a server what the model takes: encoded images (BYTES), pixels (UINT8), or both.

    Args:
        channel: To the server.
        model: ``name``, or ``name@version``.

    Raises:
        InvalidArgument: No name, or the model takes something else.
        grpc.RpcError: It did not answer, or has no such model.
    """
    if not model:
        raise InvalidArgument("Open Inference servers have no default model; name one with --model")
    name, _, version = model.partition("@")
    open_stub: Any = inference_pb2_grpc.GRPCInferenceServiceStub
    stub = open_stub(channel)
    found = stub.ModelMetadata(
        inference_pb2.ModelMetadataRequest(name=name, version=version), timeout=ASKING_S
    )
    if len(found.inputs) != 1:
        raise InvalidArgument(f"model {model!r} takes {len(found.inputs)} inputs; bench sends one, images")
    (wanted,) = found.inputs
    told = _parameters(stub, name, version)
    datatypes = told.get(_DATATYPES_KEY, wanted.datatype).split(",")

    def request(images: Sequence[ImageInput]) -> bytes:
        encoded = isinstance(images[0], EncodedImage)
        datatype = "BYTES" if encoded else "UINT8"
        if datatype not in datatypes:
            raise InvalidArgument(
                f"model {model!r} takes {' or '.join(datatypes)}, not {datatype}: "
                + ("send pixels (--pixels)" if "UINT8" in datatypes else "bench can send BYTES and UINT8")
            )
        # Where the input's own type is BYTES, its rank is asked for: [N] here, [N, 1] there.
        rank = len(wanted.shape) if wanted.datatype == "BYTES" else 1
        message = inference_pb2.ModelInferRequest(model_name=name, model_version=version)
        shape = (1,) * (rank - 1) if isinstance(images[0], EncodedImage) else images[0].shape
        message.inputs.add(name=wanted.name, datatype=datatype, shape=(len(images), *shape))
        message.raw_input_contents.append(b"".join(_element(image) for image in images))
        data: bytes = message.SerializeToString()
        return data

    served = Served(model, told.get("artifact_id", ""), told.get("decode", ""), "", _size(wanted))
    return Dialect(served, _METHOD, request, answer)


def answer(reply: bytes) -> tuple[int, str]:
    """How many images a ModelInferResponse serves: the protocol knows no failure of one among others."""
    found = inference_pb2.ModelInferResponse.FromString(reply)
    return (found.outputs[0].shape[0], OK) if found.outputs else (0, "no output")


def _parameters(stub: Any, name: str, version: str) -> Mapping[str, str]:
    """What the model's configuration tells besides; nothing where the server shows none."""
    asked = inference_pb2.ModelConfigRequest(name=name, version=version)
    try:
        found = stub.ModelConfig(asked, timeout=ASKING_S)
    except grpc.RpcError as exc:
        if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
            return {}
        raise
    return {key: value.string_value for key, value in found.config.parameters.items()}


def _element(image: ImageInput) -> bytes:
    """An element of a BYTES tensor stands behind its length, 4 bytes little-endian; pixels as they are."""
    if isinstance(image, EncodedImage):
        return len(image.data).to_bytes(4, "little") + image.data
    return image.data


def _size(wanted: Any) -> tuple[int, int]:
    shape = list(wanted.shape)
    return (shape[1], shape[2]) if wanted.datatype == "UINT8" and len(shape) == 4 else (0, 0)
