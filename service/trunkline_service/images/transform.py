"""Resize and centre crop, bit for bit as torchvision and timm do on Pillow images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trunkline_service.images.decoded import Decoded
from trunkline_service.images.preprocess import Preprocess

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


def resized_size(size: tuple[int, int], spec: Preprocess) -> tuple[int, int]:
    """(height, width) after the resize step, by torchvision's rule; the longer side is truncated."""
    match spec.resize:
        case "none":
            return size
        case "squash":
            return spec.resize_size
    height, width = size
    short = spec.resize_size[0]
    if width <= height:
        return int(short * height / width), short
    return short, int(short * width / height)


def resize_and_crop(pixels: NDArray[np.uint8], spec: Preprocess) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) to uint8 (crop_height, crop_width, 3), C-contiguous.

    An image smaller than the crop is centred on black, as torchvision does.
    """
    return resize_placed_and_crop(Decoded.whole(pixels), spec)


def resize_placed_and_crop(decoded: Decoded, spec: Preprocess) -> NDArray[np.uint8]:
    """As `resize_and_crop`, for pixels that may be a scaled copy: it meets the size of the picture itself."""
    image = Image.fromarray(decoded.pixels)
    new_height, new_width = resized_size(decoded.size, spec)
    if (new_height, new_width) != decoded.pixels.shape[:2]:
        resampling = _RESAMPLING[spec.interpolation]
        image = image.resize((new_width, new_height), resampling, box=decoded.box)
    crop_height, crop_width = spec.crop_size
    top, left = _offset(new_height, crop_height), _offset(new_width, crop_width)
    # Pillow fills what lies outside the image with zeros.
    return np.asarray(image.crop((left, top, left + crop_width, top + crop_height)))


def _offset(length: int, crop: int) -> int:
    """Where the crop begins; negative by the padding that torchvision puts before a shorter side."""
    return -((crop - length) // 2) if crop > length else round((length - crop) / 2.0)
