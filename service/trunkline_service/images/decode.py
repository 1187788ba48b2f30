"""Bytes to upright 8-bit RGB pixels, within limits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import ImageTooLarge
from trunkline_service.images.colour import to_rgb
from trunkline_service.images.decoded import Decoded
from trunkline_service.images.faults import translated
from trunkline_service.images.formats import Format, sniff
from trunkline_service.images.jpeg import decode_jpeg
from trunkline_service.images.orientation import read_orientation, upright
from trunkline_service.images.pillow_files import open_header
from trunkline_service.settings import DecodeMode, ImageLimits


def decode(
    data: bytes, mode: DecodeMode, limits: ImageLimits, target: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """The pixels of an encoded image.

    Args:
        data: A whole file of one of the formats of `formats.Format`.
        mode: ``exact``: the pixels Pillow gives, then EXIF-transposed. ``fast``: a JPEG is decoded at
            1/2, 1/4 or 1/8 if the result is still at least twice the target; others as ``exact``.
        limits: Checked against the bytes, then the header, before anything is decoded.
        target: (height, width) in pixels that the resize step will produce; (s, s) for a shorter
            side of s. Used in mode ``fast`` alone.

    Returns:
        uint8 (H, W, 3), RGB, C-contiguous, by the conventions of `conventions.CONVENTIONS`.

    Raises:
        ImageError: One of its subclasses; the message names no item, the caller does.
    """
    return decode_placed(data, mode, limits, target).pixels


def decode_placed(
    data: bytes, mode: DecodeMode, limits: ImageLimits, target: tuple[int, int] | None
) -> Decoded:
    """As `decode`, with the place of the pixels on the picture, which resizing a scaled copy needs."""
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(
            f"the image has {len(data):,} bytes; at most {limits.max_bytes:,} are allowed: "
            "send a smaller copy, or raise image_max_bytes on the server"
        )
    image_format = sniff(data)
    with translated(data, image_format):
        if image_format is Format.JPEG:
            return decode_jpeg(data, limits, target if mode == "fast" else None)
        image = open_header(data, image_format, limits)
        # Orientation comes after loading: PNG may store it behind the pixels, TIFF is turned by loading.
        image.load()
        return Decoded.whole(upright(to_rgb(image), read_orientation(image)))
