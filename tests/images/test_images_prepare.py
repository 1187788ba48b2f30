from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from trunkline_service.errors import ImageError, ImageTooLarge, InvalidTensor
from trunkline_service.images.prepare import prepare_encoded, prepare_tensor
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.images.transform import resize_and_crop
from trunkline_service.settings import ImageLimits

SPEC = Preprocess("shorter", (40, 40), "bicubic", (32, 32), (0.5,) * 3, (0.5,) * 3)
IMAGENET = Preprocess("shorter", (73, 73), "bicubic", (64, 64), (0.5,) * 3, (0.5,) * 3)
LIMITS = ImageLimits()


def some_photographs(assets, count):
    paths = sorted((assets / "images" / "hymenoptera").rglob("*.jpg"))
    return [path.read_bytes() for path in paths[:: len(paths) // count][:count]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_an_encoded_image_is_decoded_then_resized(picture, encode, kind):
    data = encode(picture, kind)
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    np.testing.assert_array_equal(prepare_encoded(data, SPEC, "exact", LIMITS), resize_and_crop(pixels, SPEC))


def test_a_tensor_is_resized_by_the_models_rule(picture):
    pixels = np.asarray(picture)
    result = prepare_tensor(pixels.tobytes(), "uint8", [43, 61, 3], SPEC, LIMITS)
    np.testing.assert_array_equal(result, resize_and_crop(pixels, SPEC))


def test_a_tensor_of_the_input_size_is_used_as_it_is(picture):
    pixels = np.asarray(picture.resize((32, 32)))
    data = pixels.tobytes()
    result = prepare_tensor(data, "uint8", (32, 32, 3), SPEC, LIMITS)
    np.testing.assert_array_equal(result, pixels)
    assert np.shares_memory(result, np.frombuffer(data, np.uint8))
    assert not np.array_equal(resize_and_crop(pixels, SPEC), pixels)


@pytest.mark.parametrize(
    ("dtype", "shape", "words"),
    [
        ("float32", [2, 2, 3], "dtype is 'float32'"),
        ("UINT8", [2, 2, 3], "dtype is 'UINT8'"),
        ("uint8", [3, 2, 2], r"shape is \[3, 2, 2\]"),
        ("uint8", [2, 2], "shape is"),
        ("uint8", [], "shape is"),
        ("uint8", [1, 2, 2, 3], "shape is"),
        ("uint8", [2, 2, 1], "shape is"),
        ("uint8", [0, 2, 3], "shape is"),
        ("uint8", [-2, -2, 3], "shape is"),
        ("uint8", [2, 3, 3], "has 18 bytes, but 12 were sent"),
        ("uint8", [1, 2, 3], "has 6 bytes, but 12 were sent"),
    ],
)
def test_a_bad_tensor_is_refused(dtype, shape, words):
    with pytest.raises(InvalidTensor, match=words):
        prepare_tensor(bytes(12), dtype, shape, SPEC, LIMITS)


def test_a_tensor_of_too_many_pixels_is_refused():
    with pytest.raises(ImageTooLarge, match="the tensor is 100000 x 100000"):
        prepare_tensor(b"", "uint8", [100_000, 100_000, 3], SPEC, LIMITS)


@given(st.binary(max_size=64), st.lists(st.integers(-3, 8), max_size=4))
def test_any_tensor_is_prepared_or_refused(data, shape):
    try:
        result = prepare_tensor(data, "uint8", shape, SPEC, LIMITS)
    except ImageError:
        return
    assert result.shape == (32, 32, 3)


def test_an_elongated_image_is_refused_before_it_is_resized(encode):
    """1 x 60,000 pixels are few; with 40 for the shorter side it would have 96 million."""
    data = encode(Image.new("RGB", (60_000, 1)), "PNG")
    with pytest.raises(ImageTooLarge, match="too elongated"):
        prepare_encoded(data, SPEC, "exact", LIMITS)
    with pytest.raises(ImageTooLarge, match="too elongated"):
        prepare_tensor(bytes(180_000), "uint8", [60_000, 1, 3], SPEC, LIMITS)


def test_enlarging_to_the_models_size_is_allowed_under_small_limits(encode):
    squash = Preprocess("squash", (64, 64), "bilinear", (64, 64), (0.5,) * 3, (0.5,) * 3)
    data = encode(Image.new("RGB", (8, 8)), "PNG")
    assert prepare_encoded(data, squash, "exact", ImageLimits(max_pixels=64)).shape == (64, 64, 3)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_threads_give_what_one_thread_gives(assets, mode):
    photographs = some_photographs(assets, 16)
    assert len(photographs) == 16

    def prepare(data):
        return prepare_encoded(data, IMAGENET, mode, LIMITS)

    serial = [prepare(data) for data in photographs]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(prepare, photographs * 4))
    for index, pixels in enumerate(threaded):
        np.testing.assert_array_equal(pixels, serial[index % 16])


def test_fast_is_close_to_exact_on_photographs(assets):
    """Cosines of mean-free pixels; those of different photographs are far below."""
    photographs = some_photographs(assets, 16)
    exact = np.stack([prepare_encoded(data, IMAGENET, "exact", LIMITS) for data in photographs])
    fast = np.stack([prepare_encoded(data, IMAGENET, "fast", LIMITS) for data in photographs])
    assert not np.array_equal(exact, fast)

    def directions(pixels):
        flat = pixels.reshape(len(pixels), -1).astype(np.float64)
        flat -= flat.mean(axis=1, keepdims=True)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    cosines = directions(exact) @ directions(fast).T
    assert np.diag(cosines).min() > 0.999
    assert cosines[~np.eye(16, dtype=bool)].max() < 0.9


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(187, 239), (239, 187)], ids=str)
def test_fast_lies_where_exact_lies(picture, encode, size, orientation):
    """Sizes that no scale divides: the rounded-up part is left out, on whichever side it ends up."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture.resize(size, Image.Resampling.BICUBIC), "JPEG", quality=95, exif=exif)
    spec = Preprocess("shorter", (22, 22), "bilinear", (20, 20), (0.5,) * 3, (0.5,) * 3)
    exact = prepare_encoded(data, spec, "exact", LIMITS).astype(int)
    fast = prepare_encoded(data, spec, "fast", LIMITS).astype(int)
    assert 0 < np.abs(fast - exact).max() <= 4
