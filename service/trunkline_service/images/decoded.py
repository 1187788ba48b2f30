"""Decoded pixels, and how they lie on the picture that they may be a scaled copy of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Decoded:
    """Upright pixels. libjpeg rounds a scaled size up, so the picture may end within the last pixel.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, C-contiguous.
        size: (height, width) of the upright picture before any scaling, in pixels.
        box: (left, top, right, bottom) of the picture within `pixels`; all of them unless scaled.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    box: tuple[float, float, float, float]

    @classmethod
    def whole(cls, pixels: NDArray[np.uint8]) -> Decoded:
        """Pixels that were not scaled."""
        height, width = pixels.shape[:2]
        return cls(pixels, (height, width), (0, 0, width, height))
