"""The small frozen values that results are made of, and what a server says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc


@dataclass(frozen=True)
class ItemFailure:
    """Why one item failed while its batch-mates were served.

    Attributes:
        index: Position in the caller's input, from 0.
        source: The path or name that the item came with; empty for bytes and arrays.
        reason: A stable word for programs, e.g. ``"truncated_image"``.
        message: What was wrong and what to do.
        code: The kind of failure as a gRPC status.
    """

    index: int
    source: str
    reason: str
    message: str
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT

    def __str__(self) -> str:
        name = f" ({self.source})" if self.source and self.source not in self.message else ""
        return f"#{self.index}{name} {self.reason}: {self.message}"


@dataclass(frozen=True)
class ModelRef:
    """Which model made the vectors, and in which space they lie.

    Attributes:
        name: Name in the model repository.
        version: A positive integer.
        space_id: Vectors may be compared only where this is equal.
        artifact_id: Which exported file of the space computed them.
        dim: Length of a vector.
        decode: ``"exact"`` (the pixels Pillow would give) or ``"fast"``.
    """

    name: str
    version: int
    space_id: str
    artifact_id: str
    dim: int
    decode: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class HeadRef:
    """Which head made the predictions.

    Attributes:
        name: Name of the head.
        version: A positive integer.
        space_id: The space that its inputs lie in.
    """

    name: str
    version: int
    space_id: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Timings:
    """Where the server's time went, in milliseconds: each the mean over the items served.

    Attributes:
        decode_ms: Bytes to the network's input.
        queue_ms: Waiting for the device.
        infer_ms: The batch that the item was in.
    """

    decode_ms: float = 0.0
    queue_ms: float = 0.0
    infer_ms: float = 0.0


@dataclass(frozen=True)
class ModelInfo:
    """A model that the server can embed with.

    Attributes:
        name: Name in the model repository.
        version: A positive integer.
        space_id: The vector space that the model defines.
        artifact_id: The exported file.
        dim: Length of a vector.
        input_height: Pixels of the network's input.
        input_width: Pixels of the network's input.
        precision: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        source: Where the backbone came from, e.g. ``"timm:deit_tiny_patch16_224"``.
        pretrained: False for random weights, whose vectors mean nothing.
        license: Of the weights.
        parameters: How many numbers the network has.
        is_default: Whether an empty model name stands for this one.
        loaded: Whether it is loaded and warm.
        card: The whole card.
    """

    name: str
    version: int
    space_id: str
    artifact_id: str
    dim: int
    input_height: int
    input_width: int
    precision: str
    source: str
    pretrained: bool
    license: str
    parameters: int
    is_default: bool
    loaded: bool
    card: dict[str, Any] = field(repr=False, hash=False)

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class ServerInfo:
    """A server's version and limits.

    Attributes:
        version: Of the server.
        max_message_bytes: The largest request that it takes.
        max_images_per_request: The most images in one request; larger inputs are split by the client.
        max_image_bytes: The largest encoded image.
        max_image_pixels: The largest decoded image.
        device: ``"cpu"`` or ``"cuda:N"``.
        decode: ``"exact"`` or ``"fast"``.
    """

    version: str
    max_message_bytes: int
    max_images_per_request: int
    max_image_bytes: int
    max_image_pixels: int
    device: str
    decode: str
