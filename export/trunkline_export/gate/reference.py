"""What an exported graph is compared with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trunkline_export.backbone import Backbone
from trunkline_export.gate.candidate import Candidate
from trunkline_export.gate.images import GateImage
from trunkline_service.errors import ParityError
from trunkline_service.images.preprocess import Preprocess

TOGETHER = 16

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """The other side of a comparison; row i is image i.

    Attributes:
        words: What it is, for the card.
        vectors: float32 [N, dim].
        pixels: What the original's preprocessing gives, uint8 [N, height, width, 3]; None where only
            vectors are known.
    """

    words: str
    vectors: Vectors
    pixels: Pixels | None


def by_pytorch(backbone: Backbone, images: Sequence[GateImage]) -> Reference:
    """PyTorch behind the original transform.

    Raises:
        ParityError: The original transform gives another size than the card says.
    """
    tensors = originals(backbone, images)
    return Reference(
        words=f"PyTorch {torch.__version__} and the original transform, EXIF orientation applied",
        vectors=_run(backbone.module, tensors),
        pixels=recovered(tensors.numpy(), backbone.preprocess),
    )


def by_graph(candidate: Candidate, pixels: Pixels) -> Reference:
    """The fp32 graph itself, for another precision of a network that exists only as ONNX."""
    return Reference("the fp32 graph", embedded(candidate, pixels), pixels)


def embedded(candidate: Candidate, pixels: Pixels) -> Vectors:
    """Vectors of an exported graph, float32 [N, dim]."""
    parts = [candidate.run(pixels[start : start + TOGETHER]) for start in range(0, len(pixels), TOGETHER)]
    return np.concatenate(parts)


def logits_of(whole: torch.nn.Module, backbone: Backbone, images: Sequence[GateImage]) -> Vectors:
    """What the network with its classifier says of the images, float32 [N, K]."""
    return _run(whole, originals(backbone, images))


def originals(backbone: Backbone, images: Sequence[GateImage]) -> torch.Tensor:
    """The images through the original transform, normalised float32 [N, 3, height, width].

    Raises:
        ParityError: Another size than the card says.
    """
    tensors = torch.stack([_original(backbone, image) for image in images])
    height, width = backbone.preprocess.input_size
    if tuple(tensors.shape[1:]) != (3, height, width):
        raise ParityError(
            f"{backbone.source}: parity failed in its pixels: the original transform gives "
            f"{list(tensors.shape[1:])}, the card says [3, {height}, {width}]"
        )
    return tensors


def recovered(tensors: NDArray[np.float32], spec: Preprocess) -> Pixels:
    """Undoes the normalisation: float32 [N, 3, height, width] back to uint8 [N, height, width, 3]."""
    mean, std = (np.array(values, np.float64).reshape(1, 3, 1, 1) for values in (spec.mean, spec.std))
    values = np.rint((tensors * std + mean) * 255)
    return np.ascontiguousarray(values.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def _run(module: torch.nn.Module, tensors: torch.Tensor) -> Vectors:
    with torch.inference_mode():
        parts = [module(part) for part in torch.split(tensors, TOGETHER)]
    vectors: Vectors = torch.cat(parts).numpy()
    return vectors


def _original(backbone: Backbone, image: GateImage) -> torch.Tensor:
    with Image.open(io.BytesIO(image.data)) as opened:
        return backbone.transform(ImageOps.exif_transpose(opened).convert("RGB"))
