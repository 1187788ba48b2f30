"""The compiled kernel and Pillow: two ways, one answer."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from trunkline_service.images import resampling
from trunkline_service.images.inputs import EncodedImage, PixelTensor, prepare
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.images.resampling import Window, is_columns_first, resample
from trunkline_service.images.transform import resize_and_crop
from trunkline_service.settings import ImageLimits

INTERPOLATIONS = ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
WEIGHED = INTERPOLATIONS[1:]
LIMITS = ImageLimits()

needs_kernel = pytest.mark.skipif(not resampling.NATIVE, reason="no compiled kernel is installed")


def spec_of(resize, size, interpolation, crop):
    return Preprocess(resize, size, interpolation, crop, (0.5,) * 3, (0.5,) * 3)


def noise(height, width, stark=False):
    rng = np.random.default_rng(height * 100_003 + width)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    # Black and white alone overshoot most, where a filter has negative weights.
    return np.where(pixels > 127, 255, 0).astype(np.uint8) if stark else pixels


def by_pillow(pixels, box, size, window, interpolation):
    image = Image.fromarray(pixels).resize(size[::-1], Image.Resampling[interpolation.upper()], box=box)
    bottom, right = window.top + window.height, window.left + window.width
    return np.asarray(image.crop((window.left, window.top, right, bottom)))


def by_kernel(pixels, box, size, window, interpolation):
    """Into the middle of a larger array: what lies around must stay as it was."""
    around = np.full((window.height + 2, window.width + 2, 3), 77, np.uint8)
    resample(pixels, box, size, window, interpolation, around[1:-1, 1:-1])
    inside = around[1:-1, 1:-1].copy()
    around[1:-1, 1:-1] = 77
    assert (around == 77).all()
    return inside


@st.composite
def parts(draw, length):
    """(from, how much) within a length."""
    begin = draw(st.integers(0, length - 1))
    return begin, draw(st.integers(1, length - begin))


@st.composite
def cases(draw):
    height, width = draw(st.integers(1, 120)), draw(st.integers(1, 120))
    size = (draw(st.integers(1, 90)), draw(st.integers(1, 90)))
    (top, window_height), (left, window_width) = draw(parts(size[0])), draw(parts(size[1]))
    box = (0.0, 0.0, float(width), float(height))
    if draw(st.booleans()):
        cuts = [draw(st.floats(0, 0.4)) for _ in range(4)]
        box = (cuts[0] * width, cuts[1] * height, width * (1 - cuts[2]), height * (1 - cuts[3]))
    return (
        noise(height, width, draw(st.booleans())),
        box,
        size,
        Window(top, left, window_height, window_width),
    )


@needs_kernel
@settings(max_examples=300, deadline=None)
@given(case=cases(), interpolation=st.sampled_from(WEIGHED))
@example(
    case=(noise(416, 624), (0, 0, 624, 416), (256, 384), Window(16, 80, 224, 224)), interpolation="bicubic"
)
@example(case=(noise(117, 14), (0, 0, 14, 117), (39, 2), Window(0, 1, 11, 1)), interpolation="hamming")
@example(case=(noise(50, 60), (3, 4, 43, 34), (30, 40), Window(2, 3, 20, 30)), interpolation="lanczos")
def test_equals_pillow(case, interpolation):
    np.testing.assert_array_equal(by_kernel(*case, interpolation), by_pillow(*case, interpolation))


@needs_kernel
@pytest.mark.parametrize("interpolation", WEIGHED)
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (1, 1, (224, 224)),
        (1, 8192, (2, 97)),
        (8192, 1, (97, 2)),
        (3, 8192, (3, 8191)),
        (8192, 3, (8191, 3)),
        (2, 40_000, (1, 3)),
        (40_000, 2, (3, 1)),
        (2, 2, (700, 3)),
        (13, 11, (1, 1)),
    ],
    ids=str,
)
def test_extreme_sizes_equal_pillow(height, width, size, interpolation):
    pixels = noise(height, width, stark=True)
    case = (pixels, (0.0, 0.0, float(width), float(height)), size, Window(0, 0, *size))
    np.testing.assert_array_equal(by_kernel(*case, interpolation), by_pillow(*case, interpolation))


@needs_kernel
def test_a_line_too_long_for_one_strip_equals_pillow():
    """Its filter reaches over so many pixels that a few columns at a time are made."""
    pixels = noise(2, 300_000)
    case = (pixels, (0.0, 0.0, 300_000.0, 2.0), (2, 40), Window(0, 1, 2, 38))
    np.testing.assert_array_equal(by_kernel(*case, "lanczos"), by_pillow(*case, "lanczos"))


@needs_kernel
@settings(max_examples=80, deadline=None)
@given(case=cases(), interpolation=st.sampled_from(WEIGHED))
def test_without_vector_instructions_the_pixels_are_the_same(case, interpolation):
    vectors = by_kernel(*case, interpolation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "_plain", True)
        np.testing.assert_array_equal(by_kernel(*case, interpolation), vectors)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    crop=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    resize=st.sampled_from(["shorter", "squash", "none"]),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_without_the_library_the_pixels_are_the_same(height, width, crop, resize, interpolation):
    spec = spec_of(resize, (33, 33), interpolation, crop)
    pixels = noise(height, width)
    usual = resize_and_crop(pixels, spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "_kernel", None)
        np.testing.assert_array_equal(resize_and_crop(pixels, spec), usual)


def test_a_missing_library_is_told_once(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(resampling, "_kernel", resampling._load(tmp_path / "nowhere.so"))
    resampling._told.clear()
    with caplog.at_level(logging.INFO, logger=resampling.__name__):
        for _ in range(3):
            resize_and_crop(noise(40, 30), spec_of("shorter", (20, 20), "bilinear", (16, 16)))
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "Pillow resizes" in caplog.text


def test_a_file_that_is_no_library_counts_as_missing(tmp_path):
    (tmp_path / "resample.so").write_bytes(b"not a library")
    assert resampling._load(tmp_path / "resample.so") is None


@pytest.mark.parametrize(
    ("size", "new_size", "expected"),
    [
        ((500, 50), (100, 40), True),
        ((200, 150), (100, 100), False),
        ((201, 150), (100, 100), True),
        ((100, 100), (100, 200), False),
        ((100, 100), (99, 200), True),
        ((100, 100), (200, 400), False),
    ],
)
def test_which_direction_is_first(size, new_size, expected):
    assert is_columns_first(size, new_size) is expected


@pytest.mark.parametrize("crop", [(16, 16), (20, 20), (64, 50), (7, 64)], ids=str)
@pytest.mark.parametrize("resize", ["shorter", "none"])
def test_a_result_is_written_where_it_is_asked_for(crop, resize):
    spec = spec_of(resize, (20, 20), "bicubic", crop)
    pixels = noise(45, 31)
    batch = np.full((3, *crop, 3), 99, np.uint8)
    assert np.shares_memory(resize_and_crop(pixels, spec, batch[1]), batch[1])
    np.testing.assert_array_equal(batch[1], resize_and_crop(pixels, spec))
    assert (batch[[0, 2]] == 99).all()


def test_both_kinds_of_input_are_written_where_it_is_asked_for(picture, encode):
    spec = spec_of("shorter", (40, 40), "bilinear", (32, 32))
    exact = np.asarray(picture.resize((32, 32)))
    images = [
        EncodedImage(encode(picture, "PNG")),
        PixelTensor(np.asarray(picture).tobytes(), "uint8", (43, 61, 3)),
        PixelTensor(exact.tobytes(), "uint8", (32, 32, 3)),
    ]
    batch = np.zeros((3, 32, 32, 3), np.uint8)
    for image, place in zip(images, batch, strict=True):
        assert prepare(image, spec, "exact", LIMITS, place) is place
        np.testing.assert_array_equal(place, prepare(image, spec, "exact", LIMITS))
    np.testing.assert_array_equal(batch[2], exact)


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((32, 31, 3), np.uint8),
        np.zeros((32, 32), np.uint8),
        np.zeros((32, 32, 3), np.float32),
        np.zeros((3, 32, 32), np.uint8).transpose(1, 2, 0),
        np.frombuffer(bytes(32 * 32 * 3), np.uint8).reshape(32, 32, 3),
    ],
    ids=["size", "rank", "dtype", "planes", "read-only"],
)
def test_a_wrong_place_is_refused(out):
    with pytest.raises(ValueError, match="out is"):
        resize_and_crop(noise(40, 50), spec_of("shorter", (40, 40), "bilinear", (32, 32)), out)


@needs_kernel
@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((0, 0, 51, 40), Window(0, 0, 4, 4)),
        ((-1, 0, 50, 40), Window(0, 0, 4, 4)),
        ((9, 0, 9, 40), Window(0, 0, 4, 4)),
        ((0, float("nan"), 50, 40), Window(0, 0, 4, 4)),
        ((0, 0, 50, 40), Window(7, 0, 4, 4)),
        ((0, 0, 50, 40), Window(0, -1, 4, 4)),
    ],
    ids=str,
)
def test_what_lies_outside_is_refused(box, window):
    out = np.zeros((window.height, window.width, 3), np.uint8)
    with pytest.raises(ValueError, match="does not exist"):
        resample(noise(40, 50), box, (10, 10), window, "bilinear", out)


def test_threads_give_what_one_thread_gives():
    spec = spec_of("shorter", (40, 40), "bicubic", (32, 32))
    images = [noise(41 + index, 90 - index) for index in range(24)]
    alone = [resize_and_crop(pixels, spec) for pixels in images]
    batch = np.zeros((24, 32, 32, 3), np.uint8)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            list(pool.map(lambda index: resize_and_crop(images[index], spec, batch[index]), range(24)))
            np.testing.assert_array_equal(batch, np.stack(alone))
