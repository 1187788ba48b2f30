"""Which way up an image is (EXIF 2.32, tag 0x0112), and turning it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from trunkline_service.images.faults import DECODER_FAULTS

UPRIGHT = 1


def read_orientation(image: Image.Image) -> int:
    """1..8, from EXIF or else XMP, as Pillow reads them.

    A value out of range, or metadata that can't be read, counts as upright: a photograph is worth
    more than its metadata, and the convention is stated in every card.
    """
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except DECODER_FAULTS:
        return UPRIGHT
    return int(value) if value in range(1, 9) else UPRIGHT


def is_turned(orientation: int) -> bool:
    """Whether the stored height is the upright image's width."""
    return orientation >= 5


def runs_backward(orientation: int) -> tuple[bool, bool]:
    """Whether the upright rows, and columns, run against the stored ones (swapped first, if turned)."""
    return orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) turned upright: (H, W, 3), or (W, H, 3) for orientations 5 to 8; C-contiguous."""
    turned = pixels.swapaxes(0, 1) if is_turned(orientation) else pixels
    backward_rows, backward_columns = runs_backward(orientation)
    turned = turned[::-1] if backward_rows else turned
    return np.ascontiguousarray(turned[:, ::-1] if backward_columns else turned)
