"""Too large is refused by the header: no allocation, no warning, no change of Pillow's globals."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image, PngImagePlugin

from trunkline_service.errors import ImageTooLarge, UnsupportedImage
from trunkline_service.images.decode import decode
from trunkline_service.settings import ImageLimits

HUGE = 100_000


def png_claiming(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    body = b"IDAT" + zlib.compress(b"\0" * 100)
    data = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + data


def jpeg_claiming(encode, picture, width, height):
    data = bytearray(encode(picture, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_claiming(encode, picture, width, height):
    data = bytearray(encode(picture, "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def gif_screen_claiming(encode, picture, width, height):
    data = bytearray(encode(picture, "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def gif_frame_claiming(encode, picture, width, height):
    """Also disposed of to the background, for which Pillow allocates while it opens the file."""
    data = encode(picture, "GIF", comment=b"between", disposal=2, transparency=0, save_all=True)
    at = data.index(b",\0\0\0\0")
    return data[: at + 5] + struct.pack("<HH", width, height) + data[at + 9 :]


def webp_extended_claiming(encode, picture, width, height):
    data = bytearray(encode(picture, "WEBP", xmp=b"<x/>"))
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def webp_lossless_claiming(encode, picture, width, height):
    data = bytearray(encode(picture, "WEBP", lossless=True))
    assert data[12:16] == b"VP8L"
    packed = int.from_bytes(data[21:25], "little") >> 28 << 28
    data[21:25] = (packed | (height - 1) << 14 | (width - 1)).to_bytes(4, "little")
    return bytes(data)


def webp_lossy_claiming(encode, picture, width, height):
    data = bytearray(encode(picture, "WEBP"))
    assert data[12:16] == b"VP8 "
    data[26:30] = struct.pack("<HH", width, height)
    return bytes(data)


def tiff_claiming(encode, picture, width, height):
    return (
        encode(picture, "TIFF")
        .replace(struct.pack("<HHII", 256, 4, 1, picture.width), struct.pack("<HHII", 256, 4, 1, width))
        .replace(struct.pack("<HHII", 257, 4, 1, picture.height), struct.pack("<HHII", 257, 4, 1, height))
    )


def tiff_tile_claiming(encode, picture, width, height):
    """A small image in one tile that is not small."""
    tags = {256: 10, 257: 10, 258: 8, 259: 5, 262: 1, 277: 1, 322: width, 323: height, 324: 8, 325: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(200)


CLAIMS = {
    "PNG": (lambda encode, picture, width, height: png_claiming(width, height), (HUGE, HUGE)),
    "PNG just over": (lambda encode, picture, width, height: png_claiming(width, height), (2001, 2000)),
    "PNG over Pillow's": (
        lambda encode, picture, width, height: png_claiming(width, height),
        (10_000, 10_000),
    ),
    "JPEG": (jpeg_claiming, (65_500, 65_500)),
    "BMP": (bmp_claiming, (HUGE, HUGE)),
    "GIF screen": (gif_screen_claiming, (65_535, 65_535)),
    "GIF screen over Pillow's": (gif_screen_claiming, (10_000, 10_000)),
    "GIF frame": (gif_frame_claiming, (65_535, 65_535)),
    "GIF frame over Pillow's": (gif_frame_claiming, (10_000, 10_000)),
    "WebP extended": (webp_extended_claiming, (16_000, 16_000)),
    "WebP lossless": (webp_lossless_claiming, (16_000, 16_000)),
    "WebP lossy": (webp_lossy_claiming, (16_000, 16_000)),
    "WebP over Pillow's": (webp_extended_claiming, (10_000, 10_000)),
    "TIFF": (tiff_claiming, (HUGE, HUGE)),
    "TIFF tile": (tiff_tile_claiming, (60_000, 60_000)),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_header_that_claims_too_much_is_refused(picture, encode, limits, claim):
    make, (width, height) = CLAIMS[claim]
    data = make(encode, picture, width, height)
    before = Image.MAX_IMAGE_PIXELS
    tracemalloc.start()
    try:
        with pytest.raises(ImageTooLarge, match=f"{width} x {height} = .* send a smaller copy"):
            decode(data, "exact", limits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    assert before == Image.MAX_IMAGE_PIXELS


def test_pixels_up_to_the_limit_are_decoded(encode):
    image = Image.new("RGB", (200, 100))
    data = encode(image, "PNG")
    assert decode(data, "exact", ImageLimits(max_pixels=20_000)).shape == (100, 200, 3)
    with pytest.raises(ImageTooLarge):
        decode(data, "exact", ImageLimits(max_pixels=19_999))


def test_limits_above_pillows_own_are_honoured(picture, encode, monkeypatch):
    """Pillow's process-wide guard is neither changed nor asked, save where it stands inside a reader."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind in ("PNG", "JPEG", "BMP", "GIF"):
        assert decode(encode(picture, kind), "exact", ImageLimits()).shape == (43, 61, 3)
    for kind in ("WEBP", "TIFF"):
        with pytest.raises(ImageTooLarge, match="than Pillow decodes"):
            decode(encode(picture, kind), "exact", ImageLimits())


def test_too_many_bytes_are_refused(picture, encode):
    data = encode(picture, "PNG")
    decode(data, "exact", ImageLimits(max_bytes=len(data)))
    with pytest.raises(ImageTooLarge, match="image_max_bytes"):
        decode(data, "exact", ImageLimits(max_bytes=len(data) - 1))


@pytest.mark.parametrize("where", ["zTXt", "iCCP"])
def test_a_png_whose_text_or_profile_unpacks_to_megabytes_is_refused(picture, encode, limits, where):
    if where == "iCCP":
        data = encode(picture, "PNG", icc_profile=b"\0" * 5_000_000)
    else:
        info = PngImagePlugin.PngInfo()
        info.add_text("bomb", "x" * 5_000_000, zip=True)
        data = encode(picture, "PNG", pnginfo=info)
    assert len(data) < 50_000
    with pytest.raises(ImageTooLarge, match="text or colour profile"):
        decode(data, "exact", limits)


def test_no_other_reader_of_pillow_is_tried(picture, encode, limits):
    """Bytes that Pillow would open as another format are refused by the allow-list."""
    data = encode(picture, "PPM")
    assert Image.open(io.BytesIO(data)).format == "PPM"
    with pytest.raises(UnsupportedImage, match="PPM"):
        decode(data, "exact", limits)
