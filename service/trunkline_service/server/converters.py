"""Proto <-> domain. Pure functions; nothing here knows of sockets."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence

import numpy as np
from numpy.typing import NDArray

from trunkline_protos.v1 import common_pb2, models_pb2
from trunkline_service.batching.engine import Embedded
from trunkline_service.batching.request import Lane, Timings
from trunkline_service.errors import InvalidArgument, TrunklineError
from trunkline_service.images.inputs import EncodedImage, ImageInput, PixelTensor
from trunkline_service.models.card import ModelCard
from trunkline_service.server.status import number_of, status_of

_DTYPES: dict[common_pb2.FloatType, np.dtype[np.floating]] = {
    common_pb2.FLOAT_TYPE_UNSPECIFIED: np.dtype("<f4"),
    common_pb2.FLOAT_TYPE_FLOAT32: np.dtype("<f4"),
    common_pb2.FLOAT_TYPE_FLOAT16: np.dtype("<f2"),
}
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def image_from(message: common_pb2.Image) -> ImageInput:
    """An image, unchecked: what is wrong with it is that item's error later on."""
    if message.WhichOneof("content") == "tensor":
        tensor = message.tensor
        return PixelTensor(tensor.data, tensor.dtype, tuple(tensor.shape))
    return EncodedImage(message.encoded)


def images_from(messages: MutableSequence[common_pb2.Image], most: int) -> list[ImageInput]:
    """The images of a request, which are taken out of it.

    Raises:
        InvalidArgument: There are more than ``most``.
    """
    check_count(len(messages), most)
    images = [image_from(message) for message in messages]
    # The bytes live in the images now; a waiting call must not hold them twice.
    del messages[:]
    return images


def check_count(count: int, most: int, what: str = "images") -> None:
    """Raises InvalidArgument if a request holds more than ``most`` of something."""
    if count > most:
        raise InvalidArgument(
            f"{count} {what} in one request; at most {most} are taken: send several requests"
        )


def lane_from(lane: common_pb2.Lane) -> Lane:
    """The lane; interactive unless bulk is asked for."""
    return "bulk" if lane == common_pb2.LANE_BULK else "interactive"


def matrix_from(message: common_pb2.Embeddings) -> NDArray[np.float32]:
    """float32 [count, dim].

    Raises:
        InvalidArgument: An unknown float type, or bytes that are not count x dim of it.
    """
    dtype = _dtype(message.type)
    wanted = message.count * message.dim * dtype.itemsize
    if len(message.data) != wanted:
        raise InvalidArgument(
            f"embeddings: {message.count} x {message.dim} {dtype.name} take {wanted} bytes; "
            f"{len(message.data)} were sent"
        )
    matrix = np.frombuffer(message.data, dtype).reshape(message.count, message.dim)
    return matrix.astype(np.float32)


def matrix_to(matrix: NDArray[np.float32], kind: common_pb2.FloatType) -> common_pb2.Embeddings:
    """Packs [count, dim] floats, little-endian.

    Raises:
        InvalidArgument: float16 was asked for and a value does not fit into it.
    """
    dtype = _dtype(kind)
    # NaN rows stand for failed images and compare as False.
    if dtype.itemsize == 2 and bool((np.abs(matrix) > _LARGEST_FLOAT16).any()):
        raise InvalidArgument("an embedding has values beyond float16's 65504; ask for float32")
    count, dim = matrix.shape
    packed = np.ascontiguousarray(matrix, dtype).tobytes()
    actual = kind or common_pb2.FLOAT_TYPE_FLOAT32
    return common_pb2.Embeddings(count=count, dim=dim, type=actual, data=packed)


def errors_to(errors: Mapping[int, TrunklineError]) -> list[common_pb2.ItemError]:
    """Items that failed, by position."""
    return [
        common_pb2.ItemError(
            index=index, code=number_of(status_of(error)), reason=error.reason, message=error.message
        )
        for index, error in sorted(errors.items())
    ]


def timings_to(timings: Timings) -> common_pb2.Timings:
    """Seconds to milliseconds."""
    return common_pb2.Timings(
        decode_ms=timings.decode_s * 1000, queue_ms=timings.queue_s * 1000, infer_ms=timings.infer_s * 1000
    )


def model_ref_to(embedded: Embedded) -> common_pb2.ModelRef:
    """Identity of what made the vectors (contract 1)."""
    card = embedded.card
    return common_pb2.ModelRef(
        name=card.name,
        version=card.version,
        space_id=card.space_id,
        artifact_id=card.artifact.artifact_id,
        dim=card.dim,
        decode=embedded.decode,
    )


def model_to(card: ModelCard, *, is_default: bool, loaded: bool) -> models_pb2.Model:
    """A model of the listing."""
    height, width = card.preprocess.input_size
    return models_pb2.Model(
        name=card.name,
        version=card.version,
        space_id=card.space_id,
        artifact_id=card.artifact.artifact_id,
        dim=card.dim,
        input_height=height,
        input_width=width,
        precision=card.artifact.precision,
        source=card.source,
        pretrained=card.pretrained,
        license=card.license,
        parameters=card.parameters,
        is_default=is_default,
        loaded=loaded,
        card_json=card.dumps(),
    )


def _dtype(kind: common_pb2.FloatType) -> np.dtype[np.floating]:
    dtype = _DTYPES.get(kind)
    if dtype is None:
        raise InvalidArgument(f"float type {kind} is unknown; there are float32 and float16")
    return dtype
