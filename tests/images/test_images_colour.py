"""The conventions of the card, each held by a test; every mode in every format it can be in."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from trunkline_service.errors import UnsupportedImage
from trunkline_service.images.decode import decode

MODES_BY_FORMAT = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "BMP": ["1", "L", "P", "RGB"],
    "GIF": ["1", "L", "P", "RGB"],
    "WEBP": ["RGB", "RGBA"],
    "TIFF": ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I;16B"],
    "JPEG": ["L", "RGB", "CMYK"],
}
CASES = [(kind, mode) for kind, modes in MODES_BY_FORMAT.items() for mode in modes]


def in_mode(picture, mode):
    if mode.startswith("I;16"):
        grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        if mode == "I;16B":
            return Image.frombytes(mode, picture.size, grey.astype(">u2").tobytes())
        return Image.fromarray(grey)
    if mode == "LAB":
        from PIL import ImageCms

        lab = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        return ImageCms.applyTransform(picture, lab)
    if mode in ("LA", "PA", "RGBA"):
        clear = picture.convert("RGBA")
        clear.putalpha(Image.linear_gradient("L").resize(picture.size))
        return clear.convert("P").convert("PA") if mode == "PA" else clear.convert(mode)
    return picture.convert(mode)


def on_white(image):
    """The definition: colour x alpha + white x (1 - alpha), in floating point."""
    rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("decode_mode", ["exact", "fast"])
@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_every_mode_of_every_format(picture, encode, limits, kind, mode, decode_mode):
    data = encode(in_mode(picture, mode), kind)
    stored = Image.open(io.BytesIO(data))
    stored.load()
    result = decode(data, decode_mode, limits, (20, 20))
    assert result.dtype == np.uint8
    assert result.shape == (43, 61, 3)
    assert result.flags.c_contiguous
    if stored.mode.startswith("I;16"):
        np.testing.assert_array_equal(result, np.asarray(picture.convert("L").convert("RGB")))
    elif stored.has_transparency_data:
        assert np.abs(result - on_white(stored)).max() < 1
    else:
        np.testing.assert_array_equal(result, np.asarray(stored.convert("RGB")))


def test_sixteen_bit_grey_is_scaled_and_rounded_not_clipped(encode, limits):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for data in (encode(Image.fromarray(values), "PNG"), encode(Image.fromarray(values), "TIFF")):
        result = decode(data, "exact", limits)
        np.testing.assert_array_equal(result[..., 0], np.rint(values / 257).astype(np.uint8))
        assert (result == result[..., :1]).all()


def png(width, height, depth, colour_type, rows, *chunks):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), *(chunk(*extra) for extra in chunks)]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", body), chunk(b"IEND", b"")])


def test_sixteen_bit_colour_keeps_the_high_byte(limits):
    row = struct.pack(">6H", 0x12FF, 0x8000, 0x7FFF, 0xFFFF, 0x0080, 0x00FF)
    result = decode(png(2, 1, 16, 2, [row]), "exact", limits)
    np.testing.assert_array_equal(result, [[[0x12, 0x80, 0x7F], [0xFF, 0x00, 0x00]]])


def test_the_transparent_value_of_sixteen_bit_grey_is_white(limits):
    row = struct.pack(">3H", 0x1234, 0x1235, 0)
    result = decode(png(3, 1, 16, 0, [row], (b"tRNS", struct.pack(">H", 0x1234))), "exact", limits)
    np.testing.assert_array_equal(result[0, :, 0], [255, 18, 0])


def test_the_transparent_colour_is_white(limits):
    rows = [bytes([1, 2, 3, 4, 5, 6])]
    result = decode(png(2, 1, 8, 2, rows, (b"tRNS", struct.pack(">3H", 1, 2, 3))), "exact", limits)
    np.testing.assert_array_equal(result, [[[255, 255, 255], [4, 5, 6]]])
    result = decode(png(2, 1, 8, 0, [b"\7\x08"], (b"tRNS", struct.pack(">H", 7))), "exact", limits)
    np.testing.assert_array_equal(result[0, :, 0], [255, 8])


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
def test_transparent_parts_are_white_and_opaque_parts_are_kept(encode, limits, kind):
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 255))
    image.paste((0, 0, 200, 0), (0, 0, 4, 8))
    result = decode(encode(image, kind, **({"lossless": True} if kind == "WEBP" else {})), "exact", limits)
    np.testing.assert_array_equal(result[:, :4], 255)
    np.testing.assert_array_equal(result[:, 4:], np.broadcast_to((200, 0, 0), (8, 4, 3)))


def test_a_palette_with_partial_transparency_is_composited(picture, encode, limits):
    image = picture.quantize(4)
    data = encode(image, "PNG", transparency=bytes([0, 85, 170, 255]))
    stored = Image.open(io.BytesIO(data))
    assert stored.mode == "P"
    assert np.abs(decode(data, "exact", limits) - on_white(stored)).max() < 1


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(encode, limits, kind):
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    np.testing.assert_array_equal(decode(data, "exact", limits), np.broadcast_to((255, 0, 0), (12, 16, 3)))


@pytest.mark.parametrize(
    ("pixels", "kind"),
    [(np.ones((4, 4), np.float32), "floating-point"), (np.ones((4, 4), np.int32), "32-bit")],
)
def test_tiff_without_a_fixed_range_is_refused(encode, limits, pixels, kind):
    with pytest.raises(UnsupportedImage, match=f"TIFF.*{kind}"):
        decode(encode(Image.fromarray(pixels), "TIFF"), "exact", limits)


ORIENTED = [
    ("JPEG", {}),
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), ORIENTED, ids=str)
def test_exif_orientation_equals_exif_transpose(picture, encode, limits, orientation, kind, options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture, kind, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    result = decode(data, "exact", limits)
    assert result.shape == ((61, 43, 3) if orientation >= 5 else (43, 61, 3))
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_in_xmp_counts_as_pillow_reads_it(picture, encode, limits, kind, orientation):
    xmp = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    options = {"tiffinfo": {700: xmp}} if kind == "TIFF" else {"xmp": xmp}
    data = encode(picture, kind, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert expected.shape[0] == (61 if orientation == 6 else 43)
    np.testing.assert_array_equal(decode(data, "exact", limits), expected)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_out_of_range_counts_as_upright(picture, encode, limits, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture, "PNG", exif=exif)
    np.testing.assert_array_equal(decode(data, "exact", limits), np.asarray(picture))


def test_unreadable_exif_counts_as_upright(picture, encode, limits):
    data = encode(picture, "PNG", exif=b"Exif\0\0garbage")
    np.testing.assert_array_equal(decode(data, "exact", limits), np.asarray(picture))
