"""Pillow's resampling of RGB pixels, and of no more of the result than is asked for.

The method is that of Pillow's documentation (Concepts, Filters), in the arithmetic of Pillow 13: its pixels,
bit for bit. `native/resample.c` does it, without the GIL; where no compiled copy of it is installed,
Pillow does it, several times slower.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trunkline_service.errors import ImageTooLarge
from trunkline_service.images.preprocess import Interpolation

_log = logging.getLogger(__name__)

LIBRARY = Path(__file__).parent / "native" / "resample.so"
"""Where the wheel has the compiled kernel."""

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
# The order of FILTERS in weights.h; `nearest` weighs nothing.
_FILTERS: dict[Interpolation, int] = {"box": 0, "bilinear": 1, "hamming": 2, "bicubic": 3, "lanczos": 4}

_Box = ctypes.c_float * 4
_Size = ctypes.c_int64 * 2
_Window = ctypes.c_int64 * 4
_DONE, _NO_MEMORY = 0, 1


@dataclass(frozen=True)
class Window:
    """A part of a resized image: `height` x `width` pixels from row `top`, column `left`."""

    top: int
    left: int
    height: int
    width: int


def _load(path: Path) -> Callable[..., int] | None:
    try:
        kernel = ctypes.CDLL(str(path)).trunkline_resample_1
    except (OSError, AttributeError):
        # No file, or one built for another machine or from other sources.
        return None
    # CDLL lets go of the GIL while it runs.
    kernel.restype = ctypes.c_int
    kernel.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        _Box,
        ctypes.c_int,
        _Size,
        _Window,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_int64,
    ]
    return kernel


_kernel = _load(LIBRARY)

NATIVE: bool = _kernel is not None
"""Whether the compiled kernel resamples; else Pillow does."""

# Whether to do without vector instructions, for tests: the pixels are the same.
_plain = False

_told = threading.Event()


def resample(
    pixels: NDArray[np.uint8],
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    window: Window,
    interpolation: Interpolation,
    out: NDArray[np.uint8],
) -> None:
    """Resizes a box of an image to a size, and writes a window of the result.

    Args:
        pixels: uint8 (H, W, 3), RGB, C-contiguous.
        box: (left, top, right, bottom) in pixels, within the image; rounded to single precision.
        size: (height, width) of the whole result, in pixels.
        window: What of the result is written; within it.
        interpolation: Pillow's filter, antialiased when reducing.
        out: uint8 (window.height, window.width, 3); its rows may lie apart.

    Raises:
        ImageTooLarge: There is not enough memory for it.
        ValueError: Arguments that do not fit together.
    """
    _check(pixels, out, window)
    if _kernel is None or interpolation == "nearest":
        if _kernel is None and not _told.is_set():
            _told.set()
            _log.info("no compiled resampling is installed (%s): Pillow resizes, slower", LIBRARY.name)
        _by_pillow(pixels, box, size, window, interpolation, out)
        return
    height, width = pixels.shape[:2]
    state = _kernel(
        pixels.ctypes.data,
        height,
        width,
        _Box(*box),
        _FILTERS[interpolation],
        _Size(*size),
        _Window(window.top, window.left, window.height, window.width),
        is_columns_first((height, width), size),
        _plain,
        out.ctypes.data,
        out.strides[0],
    )
    if state == _NO_MEMORY:
        raise ImageTooLarge("resizing the image needs more memory than there is; send a smaller copy")
    if state != _DONE:
        raise ValueError(f"{window} of {size} from the box {box} of {height} x {width} pixels does not exist")


def is_columns_first(size: tuple[int, int], new_size: tuple[int, int]) -> bool:
    """Whether Pillow (from 13) resizes down the columns first, which decides how halves are rounded.

    Args:
        size: (height, width) of the image, in pixels.
        new_size: (height, width) that it is resized to.
    """
    shrinks = size[0] - new_size[0]
    return shrinks > 0 and shrinks > 2 * (size[1] - new_size[1])


def _check(pixels: NDArray[np.uint8], out: NDArray[np.uint8], window: Window) -> None:
    """What C could not know, and would write past."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.flags.c_contiguous:
        raise ValueError(
            f"the pixels are {pixels.dtype} {pixels.shape}; they must be contiguous uint8 (H, W, 3)"
        )
    if out.dtype != np.uint8 or out.shape != (window.height, window.width, 3) or not out.flags.writeable:
        raise ValueError(f"out is {out.dtype} {out.shape}; it must be writeable uint8 of {window}")
    if out.strides[1:] != (3, 1):
        raise ValueError(f"out has strides {out.strides}; the bytes of a row must lie together")


def _by_pillow(
    pixels: NDArray[np.uint8],
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    window: Window,
    interpolation: Interpolation,
    out: NDArray[np.uint8],
) -> None:
    image = Image.fromarray(pixels).resize(size[::-1], _RESAMPLING[interpolation], box=box)
    right, bottom = window.left + window.width, window.top + window.height
    out[...] = np.asarray(image.crop((window.left, window.top, right, bottom)))
