"""One image to the network's input: what the decode pool runs for each item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import ImageTooLarge, InvalidTensor
from trunkline_service.images.decode import decode_placed
from trunkline_service.images.decoded import Decoded
from trunkline_service.images.headers import check_pixels
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.images.transform import resize_placed_and_crop, resized_size, slot
from trunkline_service.settings import DecodeMode, ImageLimits


def prepare_encoded(
    data: bytes,
    spec: Preprocess,
    mode: DecodeMode,
    limits: ImageLimits,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """An encoded image to uint8 (crop_height, crop_width, 3), RGB.

    Args:
        data: A whole file of one of the formats of `formats.Format`.
        spec: The model's rule.
        mode: As `decode.decode` has it.
        limits: What is refused before it is decoded.
        out: Where to write the result, and what is returned; new memory where None.

    Raises:
        ImageError: One of its subclasses; the message names no item, the caller does.
    """
    target = None if spec.resize == "none" else spec.resize_size
    return _fit(decode_placed(data, mode, limits, target), spec, limits, out)


def prepare_tensor(
    data: bytes,
    dtype: str,
    shape: Sequence[int],
    spec: Preprocess,
    limits: ImageLimits,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Raw RGB pixels to uint8 (crop_height, crop_width, 3).

    Pixels that have the network's input size already are used as they are: a read-only view of
    `data`, or copied where `out` is given. Any other size is resized and cropped by the model's rule.

    Args:
        data: Row by row, R G B interleaved, one byte each.
        dtype: Must be ``uint8``.
        shape: (height, width, 3).
        spec: The model's rule.
        limits: What is refused before it is looked at.
        out: Where to write the result, and what is returned.

    Raises:
        InvalidTensor: A wrong dtype, shape or length.
        ImageTooLarge: More pixels than the limits allow.
    """
    if dtype != "uint8":
        raise InvalidTensor(f"the tensor's dtype is {dtype!r}; send uint8 pixels, 0..255, not normalised")
    sides = tuple(shape)
    if len(sides) != 3 or sides[2] != 3 or min(sides) < 1:
        raise InvalidTensor(f"the tensor's shape is {list(sides)}; it must be [height, width, 3], RGB")
    height, width = sides[:2]
    check_pixels(width, height, limits, "the tensor")
    if len(data) != height * width * 3:
        raise InvalidTensor(
            f"a tensor of shape {list(sides)} has {height * width * 3:,} bytes, but {len(data):,} were sent"
        )
    pixels = np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)
    if (height, width) == spec.crop_size:
        if out is None:
            return pixels
        result = slot(out, spec)
        result[...] = pixels
        return result
    return _fit(Decoded.whole(pixels), spec, limits, out)


def _fit(
    decoded: Decoded, spec: Preprocess, limits: ImageLimits, out: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    height, width = decoded.size
    new_height, new_width = resized_size((height, width), spec)
    # A line one pixel high passes every check of its own size, and would be resized to gigabytes.
    if new_height * new_width > max(limits.max_pixels, spec.resize_size[0] * spec.resize_size[1]):
        raise ImageTooLarge(
            f"an image of {width} x {height} pixels is too elongated: resized for this model it would have "
            f"{new_width} x {new_height}, and at most {limits.max_pixels:,} pixels are allowed; crop it"
        )
    return resize_placed_and_crop(decoded, spec, out)
