from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import EmptyImage, ImageError, UnsupportedImage
from trunkline_service.images.formats import Format, sniff


@pytest.mark.parametrize("image_format", list(Format))
def test_what_pillow_writes_is_recognised(picture, encode, image_format):
    assert sniff(encode(picture, image_format.value)) is image_format


def test_big_tiff_is_recognised(picture, encode):
    assert sniff(encode(picture, "TIFF", big_tiff=True)) is Format.TIFF


def test_no_bytes_are_an_empty_image():
    with pytest.raises(EmptyImage, match="no bytes"):
        sniff(b"")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
        (b"\xc5\xd0\xd3\xc6\x1e\0\0\0", "EPS"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"  <svg/>", "SVG"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"\r\n<!DOCTYPE html><html>", "HTML"),
        (b'{"error": "not found"}', "JSON"),
        (b"404 page not found", "text"),
        (b"BMW builds cars in Bavaria", "text"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "MP4"),
        (b"8BPS\0\x01", "PSD"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"PK\x03\x04", "zip"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "WAV"),
        (b"/9j/4AAQSkZJRgABAQ", "base64"),
        (b"https://example.org/cat.jpg", "URL"),
        (b"II*\0\x10\0\0\0CR\2\0", "Canon raw"),
    ],
)
def test_a_refusal_says_what_it_looks_like_and_what_is_allowed(data, name):
    with pytest.raises(UnsupportedImage) as caught:
        sniff(data)
    assert name in caught.value.message
    assert "JPEG, PNG, WEBP, BMP, GIF, TIFF" in caught.value.message


def test_unknown_bytes_are_named_as_such():
    with pytest.raises(UnsupportedImage, match="no known image format"):
        sniff(b"\0\1\2\3\4\5\6\7")


@given(st.binary(max_size=300))
def test_any_bytes_have_a_format_or_an_image_error(data):
    try:
        sniff(data)
    except ImageError as error:
        message = error.message
    else:
        message = "recognised"
    assert message
