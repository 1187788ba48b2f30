"""Resize and centre crop, bit for bit as torchvision and timm do on Pillow images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trunkline_service.images.decoded import Decoded
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.images.resampling import Window, resample


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


def resize_and_crop(
    pixels: NDArray[np.uint8], spec: Preprocess, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """uint8 (H, W, 3), C-contiguous, to uint8 (crop_height, crop_width, 3).

    An image smaller than the crop is centred on black, as torchvision does.

    Args:
        pixels: The whole image.
        spec: The model's rule.
        out: Where to write the result, and what is returned; new memory where None.
    """
    return resize_placed_and_crop(Decoded.whole(pixels), spec, out)


def resize_placed_and_crop(
    decoded: Decoded, spec: Preprocess, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """As `resize_and_crop`, for pixels that may be a scaled copy: it meets the size of the picture itself."""
    size = resized_size(decoded.size, spec)
    top, height, above = _shown(size[0], spec.crop_size[0])
    left, width, before = _shown(size[1], spec.crop_size[1])
    result = slot(out, spec)
    if (height, width) != spec.crop_size:
        result.fill(0)
    shown = result[above : above + height, before : before + width]
    if size == decoded.pixels.shape[:2]:
        shown[...] = decoded.pixels[top : top + height, left : left + width]
    else:
        window = Window(top, left, height, width)
        resample(decoded.pixels, decoded.box, size, window, spec.interpolation, shown)
    return result


def slot(out: NDArray[np.uint8] | None, spec: Preprocess) -> NDArray[np.uint8]:
    """Memory for one input of the network: `out`, or new and not yet written where that is None.

    Raises:
        ValueError: `out` is not uint8 (crop_height, crop_width, 3), C-contiguous and writeable.
    """
    shape = (*spec.crop_size, 3)
    if out is None:
        return np.empty(shape, np.uint8)
    usable = out.dtype == np.uint8 and out.flags.c_contiguous and out.flags.writeable
    if out.shape != shape or not usable:
        raise ValueError(
            f"out is {out.dtype} {out.shape} with strides {out.strides}; it must be uint8 {shape}, "
            "C-contiguous and writeable"
        )
    return out


def _shown(length: int, crop: int) -> tuple[int, int, int]:
    """What of a side the centre crop shows: from where, how much, and after how much black."""
    if crop > length:
        return 0, length, (crop - length) // 2
    return round((length - crop) / 2.0), crop, 0
