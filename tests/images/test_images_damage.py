"""Whatever the bytes are, the answer is pixels or an `ImageError`."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from trunkline_service.errors import CorruptImage, ImageError, ImageTooLarge, TruncatedImage, UnsupportedImage
from trunkline_service.images.decode import decode
from trunkline_service.images.faults import translated
from trunkline_service.images.formats import Format
from trunkline_service.settings import ImageLimits

LIMITS = ImageLimits(max_bytes=1_000_000, max_pixels=500_000)
MAGIC = [
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"RIFF\x40\0\0\0WEBPVP8 ",
]


def sample(kind, **options):
    noise = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((40, 31), Image.Resampling.BICUBIC).save(buffer, kind, **options)
    return buffer.getvalue()


def exif():
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags


FILES = {
    "JPEG": sample("JPEG", exif=exif()),
    "progressive JPEG": sample("JPEG", progressive=True),
    "PNG": sample("PNG", exif=exif()),
    "WebP": sample("WEBP", exif=exif()),
    "GIF": sample("GIF"),
    "BMP": sample("BMP"),
    "TIFF": sample("TIFF"),
}


def outcome(data):
    try:
        pixels = decode(data, "exact", LIMITS)
    except ImageError as error:
        result = error
    else:
        check_pixels(pixels)
        return pixels
    assert result.message[0].islower()
    assert " object at 0x" not in result.message
    return result


def check_pixels(pixels):
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(FILES)), st.data())
def test_any_truncation_is_refused_or_whole(name, data):
    whole = FILES[name]
    cut = data.draw(st.integers(1, len(whole) - 1))
    result = outcome(whole[:cut])
    if isinstance(result, ImageError):
        assert isinstance(result, (TruncatedImage, UnsupportedImage)) or name == "TIFF"
        assert not isinstance(result, UnsupportedImage) or cut < 16
    else:
        # Only what stands behind the pixels may be missing.
        np.testing.assert_array_equal(result, decode(whole, "exact", LIMITS))


@pytest.mark.parametrize("name", FILES)
def test_the_first_half_of_a_file_is_truncated(name):
    with pytest.raises(TruncatedImage, match="ends too early"):
        decode(FILES[name][: len(FILES[name]) // 2], "exact", LIMITS)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(list(FILES)),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_bytes_never_crash_and_jpeg_stays_pillows(name, changes):
    data = bytearray(FILES[name])
    for at, value in changes:
        data[at % len(data)] = value
    result = outcome(bytes(data))
    if "JPEG" in name and not isinstance(result, ImageError):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(bytes(data))))
        np.testing.assert_array_equal(result, np.asarray(image.convert("RGB")))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"", *MAGIC]), st.binary(max_size=400))
def test_random_bytes_never_crash(magic, data):
    outcome(magic + data)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(FILES)), st.integers(0, 120), st.binary(min_size=1, max_size=12))
def test_bytes_put_in_or_taken_out_never_crash(name, at, extra):
    whole = FILES[name]
    outcome(whole[:at] + extra + whole[at:])
    outcome(whole[:at] + whole[at + len(extra) :])


def test_damage_is_told_from_truncation():
    data = bytearray(FILES["PNG"])
    data[data.index(b"IDAT") + 20] ^= 0xFF
    with pytest.raises(CorruptImage, match="PNG is damaged"):
        decode(bytes(data), "exact", LIMITS)


def test_a_twelve_bit_jpeg_is_unsupported():
    data = bytearray(FILES["JPEG"])
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(UnsupportedImage, match="12-bit"):
        decode(bytes(data), "exact", LIMITS)


def test_a_bmp_of_an_unknown_kind_is_unsupported():
    data = bytearray(FILES["BMP"])
    data[30] = 4
    with pytest.raises(UnsupportedImage, match="save it as 8-bit RGB"):
        decode(bytes(data), "exact", LIMITS)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Image.DecompressionBombError("big"), ImageTooLarge),
        (Image.DecompressionBombWarning("big"), ImageTooLarge),
        (MemoryError(), ImageTooLarge),
        (OSError("image file is truncated (0 bytes not processed)"), TruncatedImage),
        (EOFError(), TruncatedImage),
        (OSError("broken data stream"), CorruptImage),
        (IndexError("index out of range"), CorruptImage),
        (UserWarning("Corrupt EXIF data"), CorruptImage),
    ],
    ids=repr,
)
def test_faults_are_translated_and_chained(raised, expected):
    with pytest.raises(expected) as caught, translated(FILES["GIF"], Format.GIF):
        raise raised
    assert caught.value.__cause__ is raised


def test_our_own_errors_and_defects_pass_through():
    with pytest.raises(UnsupportedImage, match="as it was"), translated(FILES["GIF"], Format.GIF):
        raise UnsupportedImage("as it was")

    class DefectError(Exception):
        pass

    with pytest.raises(DefectError), translated(FILES["GIF"], Format.GIF):
        raise DefectError
