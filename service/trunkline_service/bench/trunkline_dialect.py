"""Trunkline's own protocol: trunkline.v1.Embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from trunkline_protos.v1 import common_pb2, embedding_pb2, models_pb2, models_pb2_grpc
from trunkline_service.bench.dialect import ASKING_S, Dialect, Served
from trunkline_service.bench.tape import OK
from trunkline_service.images.inputs import EncodedImage, ImageInput

_METHOD = "/trunkline.v1.Embedding/Embed"


def ask(channel: grpc.Channel, model: str) -> Dialect:
    """Asks a server for the model.

    Args:
        channel: To the server.
        model: ``name``, ``name@version``, or empty for the server's default.

    Raises:
        grpc.RpcError: It did not answer, or has no such model.
    """
    open_stub: Any = models_pb2_grpc.ModelsStub
    stub = open_stub(channel)
    found = stub.GetModel(models_pb2.GetModelRequest(model=model), timeout=ASKING_S)
    info = stub.GetServerInfo(models_pb2.GetServerInfoRequest(), timeout=ASKING_S)
    reference = f"{found.name}@{found.version}"
    return Dialect(
        Served(
            reference, found.artifact_id, info.decode, info.device, (found.input_height, found.input_width)
        ),
        _METHOD,
        lambda images: request(reference, images),
        answer,
        first_bad,
    )


def request(model: str, images: Sequence[ImageInput]) -> bytes:
    """An EmbedRequest."""
    return embedding_pb2.EmbedRequest(
        model=model, images=[_message(image) for image in images]
    ).SerializeToString()


def answer(reply: bytes) -> tuple[int, str]:
    """How many images an EmbedResponse serves, and ``OK`` or the reason of the first that it does not."""
    found = embedding_pb2.EmbedResponse.FromString(reply)
    status = found.errors[0].reason if found.errors else OK
    return found.embeddings.count - len(found.errors), status


def first_bad(reply: bytes) -> tuple[int, str] | None:
    """Position and message of the first image that an EmbedResponse does not serve."""
    found = embedding_pb2.EmbedResponse.FromString(reply)
    return (found.errors[0].index, found.errors[0].message) if found.errors else None


def _message(image: ImageInput) -> common_pb2.Image:
    if isinstance(image, EncodedImage):
        return common_pb2.Image(encoded=image.data)
    return common_pb2.Image(tensor=common_pb2.Tensor(dtype=image.dtype, shape=image.shape, data=image.data))
