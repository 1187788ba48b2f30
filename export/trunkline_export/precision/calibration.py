"""Images to calibrate by where a user has none at hand: made here, the same every time.

The parity gate's recipe with other seeds, so that no image calibrates and judges; and with exposure, contrast
and sharpness that vary as those of photographs do, since calibration is about how far values reach.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from trunkline_export.gate import images as gate_images
from trunkline_export.precision.ranges import Pixels
from trunkline_service.images.prepare import prepare_encoded
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.settings import ImageLimits

COUNT = 96
# The gate seeds its images by number and size; these begin where no gate reaches.
_FIRST_SEED = 1_000_000
_SIDES = (160, 449)
_TOGETHER = 16


def made(count: int = COUNT) -> list[bytes]:
    """The first ``count`` images as JPEG files."""
    return [_encoded(_FIRST_SEED + number) for number in range(count)]


def prepared(files: Iterable[bytes], spec: Preprocess) -> Iterator[Pixels]:
    """Image files as the service prepares them, uint8 [n, height, width, 3] a batch.

    Raises:
        ImageError: A file is no image that the service would take.
    """
    held: list[NDArray[np.uint8]] = []
    for data in files:
        held.append(prepare_encoded(data, spec, "exact", ImageLimits()))
        if len(held) == _TOGETHER:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


def _encoded(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    width, height = (int(side) for side in random.integers(*_SIDES, 2))
    colours = random.uniform(0, 255, (6, 3))
    pixels = _field(random, height, width, colours)
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    palette = [tuple(colour.astype(int)) for colour in colours]
    for _ in range(int(random.integers(1, 4))):
        gate_images.draw_shapes(ImageDraw.Draw(picture), random, (width, height), palette)
    picture = picture.filter(ImageFilter.GaussianBlur(float(random.choice([0.0, 0.0, 0.8, 2.0]))))
    buffer = io.BytesIO()
    Image.fromarray(_exposed(random, np.asarray(picture))).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _field(
    random: np.random.Generator, height: int, width: int, colours: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Texture over a slope of colours, in half of the images another texture in a part, as a thing before a ground."""
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    slope = (across * random.normal() + down * random.normal())[..., None] / 2
    ground: NDArray[np.float64] = (
        colours[0] + slope * (colours[1] - colours[0]) + _texture(random, height, width)
    )
    if random.random() < 0.5:
        return ground
    thing = colours[2] + _texture(random, height, width)
    edge = gate_images.pink_noise(random, height, width, exponent=1.8)[..., :1]
    centre = random.uniform(-0.5, 0.5, 2)
    distance = np.hypot(across - centre[0], down - centre[1])[..., None]
    joined: NDArray[np.float64] = np.where(distance + 0.2 * edge < random.uniform(0.3, 0.9), thing, ground)
    return joined


def _texture(random: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    field = gate_images.pink_noise(random, height, width, exponent=random.uniform(0.8, 1.6))
    coloured: NDArray[np.float64] = random.uniform(15, 60) * field @ random.normal(0, 0.6, (3, 3))
    return coloured


def _exposed(random: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Another saturation, contrast and brightness."""
    saturation, contrast = random.uniform(0.1, 0.9), random.uniform(0.6, 1.4)
    grey = pixels.mean(axis=2, keepdims=True)
    coloured = grey + saturation * (pixels - grey)
    changed = (coloured - coloured.mean()) * contrast + random.uniform(70, 170)
    exposed: NDArray[np.uint8] = np.clip(changed, 0, 255).astype(np.uint8)
    return exposed
