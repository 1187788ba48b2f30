"""What headers say of size and of completeness, read without Pillow and without allocating.

Pillow allocates while it opens an animated WebP or a GIF, so those two are measured here first. A PNG is
so that its size decides before whatever else may be wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from trunkline_service.errors import ImageTooLarge
from trunkline_service.images.formats import Format
from trunkline_service.settings import ImageLimits

_GIF_EXTENSION, _GIF_FRAME, _GIF_TRAILER = 0x21, 0x2C, 0x3B


def check_pixels(width: int, height: int, limits: ImageLimits, what: str) -> None:
    """Refuses an image of more pixels than the limits allow.

    Raises:
        ImageTooLarge: Names the size, the limit and the setting.
    """
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"{what} is {width} x {height} = {width * height:,} pixels; at most {limits.max_pixels:,} are "
            "allowed: send a smaller copy, or raise image_max_pixels on the server"
        )


def claimed_size(data: bytes, image_format: Format) -> tuple[int, int] | None:
    """(width, height) in pixels of a GIF, WebP or PNG by its header; None for others, or if unreadable."""
    if image_format is Format.GIF:
        return _gif_size(data)
    if image_format is Format.WEBP:
        return _webp_size(data)
    if image_format is Format.PNG:
        return _png_size(data)
    return None


def is_cut_short(data: bytes, image_format: Format) -> bool:
    """Whether the file's own end mark or declared length says that bytes are missing.

    Asked once decoding has failed, to tell an interrupted upload from damage.
    """
    match image_format:
        case Format.JPEG:
            return _jpeg_lacks_end(data)
        case Format.PNG:
            return _png_lacks_end(data)
        case Format.GIF:
            return all(data[at] != _GIF_TRAILER for at in _gif_blocks(data))
        case Format.WEBP:
            return len(data) < 12 or int.from_bytes(data[4:8], "little") + 8 > len(data)
        case Format.BMP:
            return len(data) < 26 or int.from_bytes(data[2:6], "little") > len(data)
        case Format.TIFF:
            first = data[4:8] if data.startswith(b"MM") else data[4:8][::-1]
            return len(data) < 8 or int.from_bytes(first, "big") >= len(data)


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _u24(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _gif_size(data: bytes) -> tuple[int, int]:
    """The logical screen, grown to hold the first frame as Pillow grows it (GIF89a, sections 18 and 20)."""
    width, height = _u16(data, 6), _u16(data, 8)
    for at in _gif_blocks(data):
        if data[at] == _GIF_FRAME:
            left, top = _u16(data, at + 1), _u16(data, at + 3)
            return max(width, left + _u16(data, at + 5)), max(height, top + _u16(data, at + 7))
    return width, height


def _gif_blocks(data: bytes) -> Iterator[int]:
    """Where each block begins, up to the trailer."""
    at = 13 + _palette_bytes(data, 10)
    while at < len(data):
        yield at
        if data[at] == _GIF_EXTENSION:
            at = _after_sub_blocks(data, at + 2)
        elif data[at] == _GIF_FRAME:
            at = _after_sub_blocks(data, at + 11 + _palette_bytes(data, at + 9))
        elif data[at] == _GIF_TRAILER:
            return
        else:
            at += 1


def _palette_bytes(data: bytes, flags_at: int) -> int:
    flags = data[flags_at] if flags_at < len(data) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """The canvas by the first chunk (RFC 9649; RFC 6386, section 9.1, for VP8)."""
    if len(data) < 30:
        return None
    match data[12:16]:
        case b"VP8X":
            return _u24(data, 24) + 1, _u24(data, 27) + 1
        case b"VP8L":
            packed = int.from_bytes(data[21:25], "little")
            return (packed & 0x3FFF) + 1, ((packed >> 14) & 0x3FFF) + 1
        case b"VP8 ":
            return _u16(data, 26) & 0x3FFF, _u16(data, 28) & 0x3FFF
    return None


def _png_size(data: bytes) -> tuple[int, int] | None:
    """The header chunk, which comes first (PNG specification, third edition, 11.2.1)."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _jpeg_lacks_end(data: bytes) -> bool:
    """Walks the segments to the first scan, so that a thumbnail's own end mark does not count."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] in (0x00, 0xFF):
            at += 1
        elif data[at + 1] == 0xDA:
            return data.find(b"\xff\xd9", at) < 0
        elif data[at + 1] == 0x01 or 0xD0 <= data[at + 1] <= 0xD9:
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return True


def _png_lacks_end(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True
