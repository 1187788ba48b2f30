"""JPEG: decoded by simplejpeg where that gives Pillow's pixels, by Pillow elsewhere."""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from trunkline_service.errors import UnsupportedImage
from trunkline_service.images.colour import to_rgb
from trunkline_service.images.decoded import Decoded
from trunkline_service.images.formats import Format
from trunkline_service.images.orientation import is_turned, read_orientation, runs_backward, upright
from trunkline_service.images.pillow_files import open_header
from trunkline_service.settings import ImageLimits

# Where both decoders are libjpeg-turbo with the same settings; CMYK and YCCK are converted differently.
_SAME_PIXELS = ("YCbCr", "Gray", "RGB")

# Below this, two of libjpeg's scales give the same size, and asking by size would be ambiguous.
_SMALLEST_SCALED = 16

# Encoders write about ten scans. Each costs a pass over the whole image and as little as a few
# bytes, so that a small file of very many would hold a thread for minutes.
_MOST_SCANS = 100


def decode_jpeg(data: bytes, limits: ImageLimits, target: tuple[int, int] | None) -> Decoded:
    """RGB, upright; scaled down by libjpeg if a target (height, width) is given.

    Reading the header with Pillow costs a fiftieth of decoding, and makes Pillow the judge of it.

    Raises:
        ImageTooLarge: More pixels than the limits allow.
        UnsupportedImage: A progressive file of more scans than any encoder writes.
        Exception: Whatever Pillow raises; call within `faults.translated`.
    """
    image = open_header(data, Format.JPEG, limits)
    _check_scans(data, image)
    orientation = read_orientation(image)
    if target and is_turned(orientation):
        target = (target[1], target[0])
    stored = (image.height, image.width)
    divisor = scale_divisor(stored, target) if target else 1
    pixels = _by_turbo(data, image, divisor)
    if pixels is None:
        pixels = _by_pillow(image, divisor)
    return _placed(upright(pixels, orientation), stored, divisor, orientation)


def scale_divisor(size: tuple[int, int], target: tuple[int, int]) -> int:
    """8, 4 or 2: the largest whose result is at least twice the target on both sides; else 1.

    Args:
        size: (height, width) in pixels, as stored.
        target: (height, width) in pixels that the resize step will produce, as stored; the shorter
            side twice, when the ratio is kept.
    """
    if min(size) < _SMALLEST_SCALED:
        return 1
    for divisor in (8, 4, 2):
        scaled = _scaled(size, divisor)
        if scaled[0] >= 2 * target[0] and scaled[1] >= 2 * target[1]:
            return divisor
    return 1


def _check_scans(data: bytes, image: ImageFile) -> None:
    if not image.info.get("progressive") or image.fp is None:
        return
    # Having read the header, Pillow stands behind the first start-of-scan marker.
    first = image.fp.tell()
    end = data.find(b"\xff\xd9", first)
    scans = 1 + data.count(b"\xff\xda", first, end if end >= 0 else len(data))
    if scans > _MOST_SCANS:
        raise UnsupportedImage(
            f"a progressive JPEG of {scans} scans; at most {_MOST_SCANS} are decoded: save it as baseline"
        )


def _scaled(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    return (-(-size[0] // divisor), -(-size[1] // divisor))


def _placed(pixels: NDArray[np.uint8], stored: tuple[int, int], divisor: int, orientation: int) -> Decoded:
    """Where the picture lies in its scaled pixels; the part it lacks is at the stored right and bottom."""
    height, width = stored[::-1] if is_turned(orientation) else stored
    rows_backward, columns_backward = runs_backward(orientation)
    top = pixels.shape[0] - height / divisor if rows_backward else 0.0
    left = pixels.shape[1] - width / divisor if columns_backward else 0.0
    return Decoded(pixels, (height, width), (left, top, left + width / divisor, top + height / divisor))


def _by_turbo(data: bytes, image: ImageFile, divisor: int) -> NDArray[np.uint8] | None:
    """The pixels, or None where simplejpeg refuses the file or would give others than Pillow."""
    height, width = _scaled((image.height, image.width), divisor)
    try:
        *stored, colour_space, _ = simplejpeg.decode_jpeg_header(data)
        if tuple(stored) != (image.height, image.width) or colour_space not in _SAME_PIXELS:
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, min_height=height, min_width=width)
    except ValueError:
        # simplejpeg stops at what libjpeg merely warns of; Pillow decides whether that is damage.
        return None
    return pixels if pixels.shape == (height, width, 3) else None


def _by_pillow(image: ImageFile, divisor: int) -> NDArray[np.uint8]:
    if divisor > 1:
        image.draft(image.mode, (image.width // divisor, image.height // divisor))
    image.load()
    return to_rgb(image)
