"""The images that are sent."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trunkline_service.bench.pictures import grouped, photographs, pixels_of, position_of, read_folder
from trunkline_service.errors import InvalidArgument


def test_made_photographs_are_jpeg_files_like_photographs_and_differ():
    made = photographs(6)
    assert len(set(made.values())) == 6
    assert all(30_000 < len(data) < 200_000 for data in made.values())
    for data in made.values():
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", (640, 427))
    assert photographs(6) == made


def test_a_folder_gives_its_images_by_path_and_nothing_else(tmp_path, png):
    (tmp_path / "b").mkdir()
    images = {
        name: png(np.full((8, 8, 3), value, np.uint8)) for value, name in enumerate(("a.png", "b/c", "d.png"))
    }
    for name, data in images.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "README.md").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    assert read_folder(tmp_path) == images


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(InvalidArgument, match=tmp_path.name):
        read_folder(tmp_path)


def test_pixels_have_the_size_of_the_input_and_broken_files_are_left_out(png):
    image = png(np.full((10, 20, 3), (1, 2, 3), np.uint8))
    (pixels,) = pixels_of({"whole": image, "cut": b"broken"}, (4, 6)).values()
    assert pixels.shape == (4, 6, 3)
    assert pixels.data == bytes((1, 2, 3)) * 24


@pytest.mark.parametrize(("size", "words"), [((0, 0), "size"), ((4, 4), "none of the images")])
def test_pixels_that_cannot_be_made_are_refused(size, words):
    with pytest.raises(InvalidArgument, match=words):
        pixels_of({"cut": b"broken"}, size)


@given(st.lists(st.integers(), min_size=1, max_size=40, unique=True), st.integers(1, 50))
def test_groups_hold_every_image_and_are_of_one_size(images, size):
    groups = grouped(images, size)
    assert {len(group) for group in groups} == {size}
    assert {image for group in groups for image in group} == set(images)
    assert len(groups) == -(-len(images) // size)
    for request, group in enumerate(groups):
        where = [position_of(request, position, size, len(images)) for position in range(size)]
        assert [images[number] for number in where] == group
