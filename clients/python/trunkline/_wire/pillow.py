"""Pillow's images to pixels, by the conventions that the server reads files with.

Pillow is recognised through ``sys.modules``: a caller who holds one of its images has imported it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

# What Pillow's lazy readers raise, on the first access to the pixels, when a file is damaged.
READ_FAULTS = (OSError, SyntaxError, ValueError, EOFError)
_ORIENTATION = 0x0112
_WHITE = (255, 255, 255, 255)


def is_pillow(value: object) -> TypeGuard[Image.Image]:
    """Whether this is one of Pillow's images."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def name_of(image: Image.Image) -> str:
    """The path that the image was opened from; empty if it was not."""
    path = getattr(image, "filename", "")
    return os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """Upright RGB pixels, uint8 (H, W, 3).

    Transparency is composited on white; 16-bit grey is scaled by 257, rounded; EXIF orientation is applied.

    Raises:
        ValueError: Values without a fixed range of brightness: 32-bit or floating point.
        OSError: The file behind the image can't be read (so can `READ_FAULTS`).
    """
    # Loading may change the mode, and what is known of transparency and orientation.
    image.load()
    return _upright(_rgb(image), _orientation(image))


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode!r} has no fixed range of brightness; convert it to 'L' or 'I;16'")
    if image.mode.startswith("I;16"):
        return _from_sixteen_bits(image)
    if image.has_transparency_data:
        return _on_white(image)
    return np.asarray(image.convert("RGB"))


def _from_sixteen_bits(image: Image.Image) -> NDArray[np.uint8]:
    wide = np.asarray(image)
    # 65535 = 255 * 257, so dividing by 257 is exact scaling; 128 rounds it.
    grey = ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[wide == clear] = 255
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    from PIL import Image

    # Pillow has no direct conversion from premultiplied grey.
    straight = image.convert("LA") if image.mode == "La" else image
    rgba = straight.convert("RGBA")
    white = Image.new("RGBA", rgba.size, _WHITE)
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """1 to 8 (EXIF 2.32, tag 0x0112); metadata that can't be read counts as upright, as on the server."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (*READ_FAULTS, LookupError, ArithmeticError, TypeError):
        return 1
    return int(value) if value in range(1, 9) else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
