"""The images that the parity gate compares on: made here, the same every time, unlike each other.

Each has the colour statistics of a photograph (noise whose amplitude falls as 1/frequency), and over it
large shapes, a gradient and fine edges like those of print, so that both a wrong filter and a wrong crop
show. Sizes, ratios and file kinds vary; some are smaller than any network's input.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

# Width and height. Odd ones catch rounding in the resize rule and in the crop.
_SIZES = (
    (640, 427), (375, 500), (224, 224), (101, 67), (333, 499), (801, 301), (256, 256), (97, 151),
    (512, 384), (240, 359), (64, 64), (499, 333), (300, 700), (225, 223), (427, 640), (181, 181),
    (720, 480), (129, 400), (351, 263), (48, 90), (400, 400), (563, 377), (257, 341), (450, 299),
)  # fmt: skip
COUNT = len(_SIZES)
_JPEG = b"\xff\xd8\xff"
_ORIENTATION_TAG = 0x0112
_QUARTER_TURN = 6


@dataclass(frozen=True)
class GateImage:
    """One image of the gate.

    Attributes:
        name: For messages.
        data: The file.
        lossless: Decoding it leaves no room for difference; false for JPEG.
    """

    name: str
    data: bytes
    lossless: bool


def made(count: int = COUNT) -> list[GateImage]:
    """The first ``count`` images, at most ``COUNT``: PNG and JPEG by turns, RGB, grey, palette, CMYK."""
    return [_made(number) for number in range(min(count, COUNT))]


def given(files: list[bytes]) -> list[GateImage]:
    """A user's own image files, for the gate."""
    return [
        GateImage(f"given image {number}", data, not data.startswith(_JPEG))
        for number, data in enumerate(files)
    ]


@functools.cache
def _made(number: int) -> GateImage:
    return _encode(number, Image.fromarray(_picture(number)))


def _picture(number: int) -> NDArray[np.uint8]:
    width, height = _SIZES[number]
    random = np.random.default_rng([number, width, height])
    colours = random.uniform(0, 255, (6, 3))
    field = pink_noise(random, height, width, exponent=random.uniform(0.8, 1.6)) @ random.normal(
        0, 0.6, (3, 3)
    )
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    slope = (across * random.normal() + down * random.normal())[..., None]
    pixels = colours[0] + random.uniform(20, 60) * field + slope * (colours[1] - colours[0])
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw_shapes(ImageDraw.Draw(picture), random, (width, height), [tuple(c.astype(int)) for c in colours])
    return np.asarray(picture)


def pink_noise(random: np.random.Generator, height: int, width: int, exponent: float) -> NDArray[np.float64]:
    """Noise [height, width, 3] of unit variance whose amplitude falls as 1/frequency**exponent."""
    spectrum = np.fft.rfft2(random.standard_normal((height, width, 3)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    field = np.fft.irfft2(spectrum / frequency[..., None] ** exponent, s=(height, width), axes=(0, 1))
    field -= field.mean(axis=(0, 1))
    scaled: NDArray[np.float64] = field / field.std()
    return scaled


def draw_shapes(
    draw: ImageDraw.ImageDraw,
    random: np.random.Generator,
    size: tuple[int, int],
    colours: list[tuple[int, ...]],
) -> None:
    """Large shapes and lines of fine strokes over a picture of (width, height), in six colours."""
    scale = np.array(size)
    for shape in range(int(random.integers(2, 6))):
        centre, radius = random.uniform(0, 1, 2) * scale, random.uniform(0.06, 0.35, 2) * min(size)
        box = [tuple(centre - radius), tuple(centre + radius)]
        colour = colours[2 + shape % 4]
        match random.integers(0, 4):
            case 0:
                draw.ellipse(box, fill=colour)
            case 1:
                draw.rectangle(box, outline=colour, width=max(2, min(size) // 20))
            case 2:
                corners = centre + random.normal(0, 0.25 * min(size), (5, 2))
                draw.polygon([tuple(corner) for corner in corners], fill=colour)
            case _:
                draw.arc(box, 20, 300, fill=colour, width=max(2, min(size) // 25))
    # Strokes of one or two pixels, in lines, as print has them.
    left, top = random.uniform(0.05, 0.4, 2) * scale
    step = int(random.integers(3, 9))
    for stroke in range(40):
        x, y = left + (stroke % 20) * step, top + (stroke // 20) * 3 * step
        tip = (x + random.integers(-2, 3), y + random.integers(1, 2 * step))
        draw.line([(x, y), tip], fill=colours[stroke % 2], width=1 + step // 6)


def _encode(number: int, picture: Image.Image) -> GateImage:
    kind, options = _kind(number)
    picture = picture.quantize(64) if kind == "P" else picture.convert(kind)
    exif = Image.Exif()
    if number == 7:
        exif[_ORIENTATION_TAG] = _QUARTER_TURN
    lossless = number % 2 == 0
    buffer = io.BytesIO()
    picture.save(buffer, "PNG" if lossless else "JPEG", exif=exif, **options)
    words = f"made image {number} ({picture.width} x {picture.height} {kind} {'PNG' if lossless else 'JPEG'})"
    return GateImage(words, buffer.getvalue(), lossless)


def _kind(number: int) -> tuple[str, dict[str, int | bool]]:
    """Pillow's mode and the encoder's options."""
    if number % 2 == 0:
        return {6: "L", 10: "P"}.get(number, "RGB"), {"compress_level": 1}
    options: dict[str, int | bool] = {"quality": 75 + number, "subsampling": number // 2 % 3}
    match number:
        case 5:
            return "L", {"quality": 90}
        case 9:
            return "CMYK", {"quality": 92}
        case 11:
            return "RGB", {**options, "progressive": True}
    return "RGB", options
