"""Exact mode gives Pillow's pixels; fast mode gives libjpeg's at the intended scale."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from trunkline_service.errors import TruncatedImage, UnsupportedImage
from trunkline_service.images import jpeg
from trunkline_service.images.decode import decode
from trunkline_service.images.jpeg import scale_divisor

SIZES = [(301, 203), (64, 48), (17, 16), (33, 1), (1, 33), (3, 5), (2, 2), (1, 1)]


def by_pillow(data, divisor=1):
    image = Image.open(io.BytesIO(data))
    if divisor > 1:
        image.draft(image.mode, (image.width // divisor, image.height // divisor))
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.fixture
def no_pillow_decoding(monkeypatch):
    """Makes a fall-back to Pillow visible, so that an equality is not Pillow against itself."""

    def fail(image, divisor):
        raise AssertionError("Pillow decoded what simplejpeg should have")

    monkeypatch.setattr(jpeg, "_by_pillow", fail)


@pytest.mark.usefixtures("no_pillow_decoding")
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_exact_equals_pillow_over_kinds_of_jpeg(picture, encode, limits, size, mode):
    source = picture.resize(size).convert(mode)
    for subsampling, progressive, restart in itertools.product([0, 1, 2], [False, True], [0, 1, 3]):
        options = {"subsampling": subsampling, "progressive": progressive, "restart_marker_blocks": restart}
        data = encode(source, "JPEG", quality=83, **options)
        np.testing.assert_array_equal(decode(data, "exact", limits), by_pillow(data), err_msg=str(options))


@pytest.mark.usefixtures("no_pillow_decoding")
@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411", "Gray"])
def test_exact_equals_pillow_over_rarer_subsamplings(picture, limits, subsampling):
    pixels = np.ascontiguousarray(picture)
    data = simplejpeg.encode_jpeg(pixels, 80, "RGB", subsampling)
    np.testing.assert_array_equal(decode(data, "exact", limits), by_pillow(data))


@pytest.mark.usefixtures("no_pillow_decoding")
def test_exact_equals_pillow_for_jpeg_stored_as_rgb(picture, encode, limits):
    data = encode(picture, "JPEG", keep_rgb=True)
    assert simplejpeg.decode_jpeg_header(data)[2] == "RGB"
    np.testing.assert_array_equal(decode(data, "exact", limits), by_pillow(data))


def test_cmyk_is_converted_as_pillow_does(picture, encode, limits):
    data = encode(picture.convert("CMYK"), "JPEG")
    np.testing.assert_array_equal(decode(data, "exact", limits), by_pillow(data))
    assert np.abs(decode(data, "exact", limits).astype(int) - np.asarray(picture)).mean() < 6


@pytest.mark.usefixtures("no_pillow_decoding")
def test_exact_equals_pillow_on_photographs(assets, limits):
    photographs = sorted((assets / "images").rglob("*.jp*g"))[::97]
    assert len(photographs) > 50
    for path in photographs:
        data = path.read_bytes()
        np.testing.assert_array_equal(decode(data, "exact", limits), by_pillow(data), err_msg=path.name)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [1, 2, 3, 20, 200])
def test_a_jpeg_that_lacks_its_end_is_truncated(picture, encode, limits, progressive, missing):
    """Even if only the end-of-image marker is missing, as Pillow has it."""
    data = encode(picture, "JPEG", quality=95, progressive=progressive)
    with pytest.raises(TruncatedImage, match="JPEG ends too early"):
        decode(data[:-missing], "exact", limits)


def test_bytes_behind_the_end_are_no_harm(picture, encode, limits):
    data = encode(picture, "JPEG")
    np.testing.assert_array_equal(decode(data + b"\0" * 99, "exact", limits), by_pillow(data))


def test_damage_that_libjpeg_only_warns_of_is_left_to_pillow(picture, encode, limits):
    data = bytearray(encode(picture, "JPEG", quality=95))
    for at in (len(data) // 2, len(data) // 2 + 40):
        data[at] ^= 0x55
    with pytest.raises(ValueError, match="Corrupt JPEG data"):
        simplejpeg.decode_jpeg(bytes(data))
    np.testing.assert_array_equal(decode(bytes(data), "exact", limits), by_pillow(bytes(data)))


def test_a_multi_picture_file_gives_its_first_picture(picture, encode, limits):
    data = encode(picture, "MPO", save_all=True, append_images=[picture.rotate(180)])
    np.testing.assert_array_equal(decode(data, "exact", limits), by_pillow(data))


def test_a_bomb_of_scans_is_refused(picture, encode, limits):
    data = encode(picture, "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    decode(data[:-2] + last_scan * 20 + b"\xff\xd9", "exact", limits)
    with pytest.raises(UnsupportedImage, match="scans"):
        decode(data[:-2] + last_scan * 200 + b"\xff\xd9", "exact", limits)


@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    target=st.tuples(st.integers(1, 400), st.integers(1, 400)),
)
def test_the_scale_is_the_smallest_that_keeps_twice_the_target(size, target):
    divisor = scale_divisor(size, target)

    def keeps(by):
        return all(-(-side // by) >= 2 * wanted for side, wanted in zip(size, target, strict=True))

    assert divisor == 1 or keeps(divisor)
    if divisor < 8 and min(size) >= 16:
        assert not keeps(8)
        assert divisor == max([by for by in (2, 4) if keeps(by)], default=1)


@pytest.mark.usefixtures("no_pillow_decoding")
@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    target=st.integers(1, 60),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
)
def test_fast_equals_pillows_draft_at_the_same_scale(width, height, target, subsampling, progressive):
    pixels = np.random.default_rng(width).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(
        buffer, "JPEG", subsampling=subsampling, progressive=progressive
    )
    data = buffer.getvalue()
    divisor = scale_divisor((height, width), (target, target))
    result = decode(data, "fast", FAST_LIMITS, (target, target))
    assert result.shape == (-(-height // divisor), -(-width // divisor), 3)
    np.testing.assert_array_equal(result, by_pillow(data, divisor))


FAST_LIMITS = jpeg.ImageLimits()


def test_fast_scales_cmyk_too(picture, encode, limits):
    data = encode(picture.resize((800, 640)).convert("CMYK"), "JPEG")
    result = decode(data, "fast", limits, (64, 64))
    assert result.shape == (160, 200, 3)
    np.testing.assert_array_equal(result, by_pillow(data, 4))


def test_fast_without_target_or_with_a_large_one_is_exact(picture, encode, limits):
    data = encode(picture.resize((300, 200)), "JPEG")
    exact = decode(data, "exact", limits)
    np.testing.assert_array_equal(decode(data, "fast", limits), exact)
    np.testing.assert_array_equal(decode(data, "fast", limits, (101, 101)), exact)
    np.testing.assert_array_equal(decode(data, "exact", limits, (10, 10)), exact)


def test_fast_turns_the_target_with_the_image(picture, encode, limits):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture.resize((800, 200)), "JPEG", exif=exif)
    # Upright it is 800 high and 200 wide: half of that is twice (200, 50), a quarter is not.
    assert decode(data, "fast", limits, (200, 50)).shape == (400, 100, 3)
    assert decode(data, "fast", limits, (50, 200)).shape == (800, 200, 3)
