"""Pillow images become the pixels that the server would read from their files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from trunkline._wire import items, pillow
from trunkline_service.images.decode import decode
from trunkline_service.settings import ImageLimits

RNG = np.random.default_rng(7)


def noise(mode: str, size: tuple[int, int] = (7, 5)) -> Image.Image:
    width, height = size
    if mode == "I;16":
        return Image.fromarray(RNG.integers(0, 65536, (height, width), dtype=np.uint16))
    if mode == "1":
        return Image.fromarray(RNG.integers(0, 2, (height, width), dtype=np.uint8) * 255).convert("1")
    if mode == "P":
        return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).quantize(16)
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (height, width) if bands == 1 else (height, width, bands)
    return Image.frombytes(mode, size, RNG.integers(0, 256, shape, dtype=np.uint8).tobytes())


def stored(image: Image.Image, image_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


FILES = {
    **{f"png {mode}": stored(noise(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    **{f"tiff {mode}": stored(noise(mode), "TIFF") for mode in ("L", "RGB", "RGBA", "CMYK", "I;16")},
    "png with a transparent colour": stored(noise("P"), "PNG", transparency=3),
    "png of 16 bits with a transparent grey": stored(noise("I;16"), "PNG", transparency=500),
    "gif": stored(noise("P"), "GIF"),
    "bmp": stored(noise("RGB"), "BMP"),
    "webp with alpha": stored(noise("RGBA"), "WEBP", lossless=True),
    "jpeg": stored(noise("RGB", (33, 17)), "JPEG"),
    "grey jpeg": stored(noise("L", (33, 17)), "JPEG"),
    "cmyk jpeg": stored(noise("CMYK", (33, 17)), "JPEG"),
    **{
        f"jpeg turned {value}": stored(noise("RGB", (33, 17)), "JPEG", exif=with_orientation(value))
        for value in range(1, 9)
    },
    "png turned": stored(noise("RGB"), "PNG", exif=with_orientation(6)),
}


@pytest.mark.parametrize("name", FILES)
def test_an_opened_file_gives_the_servers_pixels(name):
    data = FILES[name]
    expected = decode(data, "exact", ImageLimits())
    got = pillow.pixels_of(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.uint8


def test_sixteen_bits_are_scaled_not_clipped():
    image = Image.fromarray(np.array([[0, 257, 385, 386, 65535]], dtype=np.uint16))
    assert pillow.pixels_of(image)[0, :, 0].tolist() == [0, 1, 1, 2, 255]


def test_what_is_transparent_is_white():
    image = Image.new("RGBA", (1, 1), (10, 20, 30, 0))
    assert pillow.pixels_of(image).tolist() == [[[255, 255, 255]]]


def test_the_image_itself_is_left_as_it_was():
    image = Image.open(io.BytesIO(FILES["jpeg turned 6"]))
    before = np.asarray(image.copy())
    pillow.pixels_of(image)
    assert image.size == (33, 17)
    assert image.getexif()[0x0112] == 6
    np.testing.assert_array_equal(np.asarray(image), before)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_range_fail_alone(mode):
    entry = items.read(Image.new(mode, (2, 2)), 10**6)
    assert isinstance(entry, items.Unsendable)
    assert entry.reason == "unreadable_image"
    assert "range of brightness" in entry.message


def test_a_damaged_file_behind_an_image_fails_alone(tmp_path):
    path = tmp_path / "cut.png"
    whole = stored(noise("RGB", (64, 64)), "PNG")
    path.write_bytes(whole[: len(whole) // 2])
    with Image.open(path) as image:
        entry = items.read(image, 10**6)
    assert isinstance(entry, items.Unsendable)
    assert (entry.reason, entry.source) == ("unreadable_image", str(path))


def test_an_opened_image_knows_its_path(tmp_path):
    path = tmp_path / "a.png"
    noise("RGB").save(path)
    with Image.open(path) as image:
        entry = items.read(image, 10**6)
    assert isinstance(entry, items.Item)
    assert (entry.source, entry.shape) == (str(path), (5, 7, 3))
