"""The two forms in which an image comes in: an encoded file, or pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.images.prepare import prepare_encoded, prepare_tensor
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.settings import DecodeMode, ImageLimits


@dataclass(frozen=True)
class EncodedImage:
    """An image file's bytes (JPEG, PNG, WebP, BMP, GIF, TIFF)."""

    data: bytes


@dataclass(frozen=True)
class PixelTensor:
    """Pixels as they came over the wire, not checked yet.

    Attributes:
        data: Row-major bytes.
        dtype: NumPy's name of the element type; only ``uint8`` will be taken.
        shape: Only [height, width, 3] will be taken.
    """

    data: bytes
    dtype: str
    shape: tuple[int, ...]


ImageInput = EncodedImage | PixelTensor


def prepare(
    image: ImageInput,
    spec: Preprocess,
    mode: DecodeMode,
    limits: ImageLimits,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """What the network takes for an image: uint8 RGB, [height, width, 3], by the card's rule.

    Args:
        image: Encoded, or pixels.
        spec: The card's rule.
        mode: How JPEG is decoded.
        limits: Checked first.
        out: Where the pixels are put, of the network's input size; None for an array of their own.

    Raises:
        ImageError: The image can't be used; says why.
    """
    if isinstance(image, EncodedImage):
        pixels = prepare_encoded(image.data, spec, mode, limits, out)
    else:
        pixels = prepare_tensor(image.data, image.dtype, image.shape, spec, limits, out)
    if out is None:
        return pixels
    np.copyto(out, pixels)
    return out
