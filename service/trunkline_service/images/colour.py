"""Any of Pillow's modes to 8-bit RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trunkline_service.errors import UnsupportedImage

# 65535 = 255 * 257, so this is the exact scaling, rounded; there are no ties, for 257 is odd.
_SIXTEEN_TO_EIGHT = ((np.arange(65536) + 128) // 257).astype(np.uint8)
_WHITE = (255, 255, 255, 255)
_BITS_PER_SAMPLE = 258


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of a loaded image, per `conventions.CONVENTIONS`.

    Raises:
        UnsupportedImage: Values without a fixed range: signed, 32-bit or floating point.
    """
    if image.mode in ("I", "F"):
        kind = "floating-point" if image.mode == "F" else "signed or 32-bit"
        raise UnsupportedImage(
            f"a {image.format} of {kind} values has no fixed range of brightness; save it as 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        return _from_sixteen_bits(image)
    if image.has_transparency_data:
        return np.asarray(_on_white(image))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _from_sixteen_bits(image: Image.Image) -> NDArray[np.uint8]:
    tags = getattr(image, "tag_v2", {})
    if tags.get(_BITS_PER_SAMPLE) == (12,):
        raise UnsupportedImage("a TIFF of 12 bits a pixel is not decoded; save it as 8 or 16 bits")
    grey = np.asarray(image)
    eight = _SIXTEEN_TO_EIGHT[grey]
    if isinstance(clear := image.info.get("transparency"), int):
        eight[grey == clear] = 255
    return np.repeat(eight[:, :, np.newaxis], 3, axis=2)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image).convert("RGB")
