"""Pictures and encoders that the image tests share."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trunkline_service.settings import ImageLimits

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def limits() -> ImageLimits:
    return ImageLimits(max_bytes=4_000_000, max_pixels=4_000_000)


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A smooth coloured picture, 61 x 43, of odd sides and no symmetry."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((61, 43), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def encode() -> Encode:
    def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, image_format, **options)
        return buffer.getvalue()

    return encoded
