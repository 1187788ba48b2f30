"""Thumbnails are read from under the declared folder alone, whatever a source says."""

from __future__ import annotations

import base64
import io
import os

import numpy as np
import pytest
from PIL import Image

from trunkline_service.heads.report.thumbnails import thumbnail
from trunkline_service.settings import ImageLimits


def opened(found):
    prefix, _, data = found.uri.partition(",")
    assert prefix == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_picture_becomes_a_small_jpeg(images):
    found = thumbnail(str(images / "picture.png"), images)
    image = opened(found)
    assert (image.format, image.size) == ("JPEG", (160, 80))
    assert (found.width, found.height, found.reason) == (160, 80, "")
    assert np.abs(np.asarray(image).reshape(-1, 3).mean(axis=0) - (200, 30, 30)).max() < 6


def test_a_small_picture_stays_small(tmp_path):
    Image.new("RGB", (20, 30)).save(tmp_path / "small.png")
    assert opened(thumbnail(str(tmp_path / "small.png"), tmp_path)).size == (20, 30)


def test_a_turned_photograph_stands_upright(tmp_path):
    image = Image.new("RGB", (320, 160))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert opened(thumbnail(str(tmp_path / "turned.jpg"), tmp_path)).size == (80, 160)


def test_without_a_folder_nothing_is_opened(images):
    assert thumbnail(str(images / "picture.png"), None).reason == "no image folder given"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "source not recorded"),
        ("s3://bucket/a.jpg", "not a local file"),
        ("https://example.org/a.jpg", "not a local file"),
        ("picture.png", "not a local file"),
        ("/nowhere/a.jpg", "file can't be read"),
        ("/\0", "not a local file"),
        ("/etc/hostname", "outside the image folder"),
    ],
)
def test_other_sources_are_not_opened(images, source, reason):
    assert thumbnail(source, images) == (None, reason, 0, 0)


def test_a_path_out_of_the_folder_is_not_opened(images, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    climbing = f"{images}/../{tmp_path.name}/secret.png"
    assert os.path.exists(f"{images}/..")
    assert thumbnail(f"{tmp_path}/secret.png", images).reason == "outside the image folder"
    assert thumbnail(climbing, images).uri is None


def test_a_link_out_of_the_folder_is_not_followed(images, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.png").symlink_to(images / "picture.png")
    (inside / "folder").symlink_to(images)
    assert thumbnail(str(inside / "link.png"), inside).reason == "outside the image folder"
    assert thumbnail(str(inside / "folder" / "picture.png"), inside).reason == "outside the image folder"


def test_a_folder_that_is_a_link_is_the_one_it_means(images, tmp_path):
    (tmp_path / "root").symlink_to(images)
    assert thumbnail(str(images / "picture.png"), tmp_path / "root").uri is not None


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg"):
        assert thumbnail(str(tmp_path / name), tmp_path).reason == "not an image file"


def test_links_in_a_circle_are_an_unreadable_file(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert thumbnail(str(tmp_path / "a"), tmp_path).reason == "file can't be read"


def test_what_is_no_image_or_too_large_is_not_decoded(images, tmp_path):
    (tmp_path / "page.jpg").write_text("<!doctype html>")
    assert thumbnail(str(tmp_path / "page.jpg"), tmp_path).reason == "image can't be decoded"
    picture = str(images / "picture.png")
    assert thumbnail(picture, images, ImageLimits(max_bytes=100)).reason == "not an image file"
    assert thumbnail(picture, images, ImageLimits(max_pixels=100)).reason == "image can't be decoded"


def test_no_file_stays_open(images, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    before = len(os.listdir("/proc/self/fd"))
    for source, root in (
        (images / "picture.png", images),
        (tmp_path / "pipe.jpg", tmp_path),
        (tmp_path, tmp_path),
    ):
        thumbnail(str(source), root)
    assert len(os.listdir("/proc/self/fd")) == before
