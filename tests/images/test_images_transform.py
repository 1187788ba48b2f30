"""Equality with torchvision on Pillow images, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from trunkline_service.images.preprocess import Preprocess
from trunkline_service.images.transform import resize_and_crop

transforms = pytest.importorskip("torchvision.transforms", reason="torchvision is the reference here")

INTERPOLATIONS = ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


def spec_of(resize, size, interpolation, crop):
    return Preprocess(resize, size, interpolation, crop, (0.5,) * 3, (0.5,) * 3)


def reference(pixels, spec):
    mode = transforms.InterpolationMode(spec.interpolation)
    steps = [transforms.CenterCrop(spec.crop_size)]
    if spec.resize == "shorter":
        steps.insert(0, transforms.Resize(spec.resize_size[0], interpolation=mode))
    if spec.resize == "squash":
        steps.insert(0, transforms.Resize(spec.resize_size, interpolation=mode))
    return np.asarray(transforms.Compose(steps)(Image.fromarray(pixels)))


def noise(height, width):
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


sides = st.integers(1, 90)
targets = st.integers(1, 70)


@settings(max_examples=300, deadline=None)
@given(
    height=sides,
    width=sides,
    resize=st.sampled_from(["shorter", "squash", "none"]),
    size=st.tuples(targets, targets),
    crop=st.tuples(targets, targets),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
@example(height=32, width=77, resize="shorter", size=(32, 32), crop=(31, 30), interpolation="bicubic")
@example(height=9, width=90, resize="none", size=(1, 1), crop=(12, 33), interpolation="nearest")
@example(height=10, width=10, resize="none", size=(1, 1), crop=(5, 7), interpolation="nearest")
def test_equals_torchvision(height, width, resize, size, crop, interpolation):
    spec = spec_of(resize, (size[0], size[0]) if resize == "shorter" else size, interpolation, crop)
    pixels = noise(height, width)
    result = resize_and_crop(pixels, spec)
    assert result.dtype == np.uint8
    assert result.shape == (*crop, 3)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, reference(pixels, spec))


@pytest.mark.parametrize("crop", [0.875, 1.0])
def test_equals_timm(crop):
    create_transform = pytest.importorskip("timm.data", reason="timm is the reference here").create_transform
    transform = create_transform(
        (3, 64, 64), interpolation="bicubic", crop_pct=crop, mean=(0, 0, 0), std=(1, 1, 1)
    )
    size = int(64 / crop)
    pixels = noise(101, 150)
    floats = transform(Image.fromarray(pixels)).numpy()
    expected = np.rint(floats.transpose(1, 2, 0) * 255).astype(np.uint8)
    spec = spec_of("shorter", (size, size), "bicubic", (64, 64))
    np.testing.assert_array_equal(resize_and_crop(pixels, spec), expected)


def test_a_wrong_interpolation_or_crop_gives_other_pixels():
    pixels = noise(80, 60)
    right = spec_of("shorter", (40, 40), "bicubic", (32, 32))
    for wrong in (
        spec_of("shorter", (40, 40), "bilinear", (32, 32)),
        spec_of("shorter", (36, 36), "bicubic", (32, 32)),
        spec_of("squash", (40, 40), "bicubic", (32, 32)),
    ):
        assert not np.array_equal(resize_and_crop(pixels, right), resize_and_crop(pixels, wrong))
