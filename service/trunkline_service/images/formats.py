"""Which format bytes are in, told by their first bytes alone; nothing is decoded here."""

from __future__ import annotations

import re
from enum import Enum

from trunkline_service.errors import EmptyImage, UnsupportedImage


class Format(Enum):
    """The formats that are decoded: the allow-list. Values are Pillow's names."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"
    BMP = "BMP"
    GIF = "GIF"
    TIFF = "TIFF"


ALLOWED = ", ".join(entry.value for entry in Format)

_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", Format.JPEG),
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"GIF87a", Format.GIF),
    (b"GIF89a", Format.GIF),
    (b"II*\0", Format.TIFF),
    (b"MM\0*", Format.TIFF),
    (b"II+\0", Format.TIFF),
    (b"MM\0+", Format.TIFF),
)

# Sizes of the header after BMP's first 14 bytes, in all its versions. "BM" alone begins much text.
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)

_KNOWN: tuple[tuple[bytes, str], ...] = (
    (b"%!PS", "EPS or PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"%PDF", "PDF"),
    (b"8BPS", "PSD (Photoshop)"),
    (b"\0\0\1\0", "ICO (an icon)"),
    (b"\0\0\2\0", "CUR (a cursor)"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"qoif", "QOI"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"SIMPLE  =", "FITS"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"PAR1", "a Parquet file"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (b"data:image/", "a data: URL; decode its base64 part first"),
    (b"/9j/", "base64 text of a JPEG; decode it first"),
    (b"iVBORw0KGgo", "base64 text of a PNG; decode it first"),
    (b"P4\n", "PBM"),
    (b"P5\n", "PGM"),
    (b"P6\n", "PPM"),
    (b"http://", "a URL; send the image's bytes"),
    (b"https://", "a URL; send the image's bytes"),
)

_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"mif1": "HEIC or AVIF",
    b"msf1": "HEIC or AVIF",
    b"crx ": "a Canon raw file",
}

# ASCII's printable bytes, and those that UTF-8 uses.
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xbf\xc2-\xf4]+")
_TEXTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"<svg"), "SVG"),
    (re.compile(rb"\A(<!doctype html|<html|<head)"), "an HTML page; the download may have failed"),
    (re.compile(rb"\A<\?xml"), "XML"),
    (re.compile(rb"\A[{\[]"), "JSON"),
    (re.compile(rb"\Ap[1-3]\s"), "PBM, PGM or PPM"),
)
_HEAD_BYTES = 512


def sniff(data: bytes) -> Format:
    """The format of an encoded image.

    Raises:
        EmptyImage: No bytes.
        UnsupportedImage: No format of the allow-list; says what it looks like, where that is known.
    """
    if not data:
        raise EmptyImage("the image has no bytes; send the whole file")
    # Canon's raw files are TIFF files whose first picture is a thumbnail, which is not the photograph.
    if data[8:10] == b"CR" and data.startswith(b"II*\0"):
        raise UnsupportedImage(_refusal("a Canon raw file"))
    for magic, found in _MAGIC:
        if data.startswith(magic):
            return found
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Format.WEBP
    if data.startswith(b"BM") and (len(data) < 18 or int.from_bytes(data[14:18], "little") in _BMP_HEADERS):
        return Format.BMP
    raise UnsupportedImage(_refusal(_looks_like(data[:_HEAD_BYTES])))


def _refusal(looks_like: str | None) -> str:
    what = f"this looks like {looks_like}" if looks_like else "these bytes are of no known image format"
    return f"{what}; the formats are {ALLOWED}"


def _looks_like(head: bytes) -> str | None:
    named = next((name for magic, name in _KNOWN if head.startswith(magic)), None)
    return named or _container(head) or _text(head)


def _container(head: bytes) -> str | None:
    """Formats whose mark is not at the beginning."""
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "an MP4 or QuickTime video")
    if head.startswith(b"RIFF"):
        return "an AVI video or WAV sound"
    return "DICOM" if head[128:132] == b"DICM" else None


def _text(head: bytes) -> str | None:
    if not _TEXT.fullmatch(head):
        return None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((name for pattern, name in _TEXTS if pattern.search(text)), "text")
