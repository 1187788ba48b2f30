from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import ModelFileError
from trunkline_service.images.conventions import CONVENTIONS
from trunkline_service.images.preprocess import MAX_SIDE, Preprocess

IMAGENET = Preprocess(
    resize="shorter",
    resize_size=(256, 256),
    interpolation="bicubic",
    crop_size=(224, 192),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

sides = st.integers(1, MAX_SIDE)
unit = st.floats(0, 1)


@st.composite
def specs(draw):
    resize = draw(st.sampled_from(["shorter", "squash", "none"]))
    height = draw(sides)
    return Preprocess(
        resize=resize,
        resize_size=(height, height if resize == "shorter" else draw(sides)),
        interpolation=draw(st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])),
        crop_size=draw(st.tuples(sides, sides)),
        mean=draw(st.tuples(unit, unit, unit)),
        std=draw(st.tuples(*[st.floats(0, 1, exclude_min=True)] * 3)),
    )


@given(specs())
def test_json_round_trip(spec):
    assert Preprocess.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_input_size_is_the_crop():
    assert IMAGENET.input_size == (224, 192)


def test_whole_numbers_are_read_as_channels():
    spec = Preprocess.from_json(IMAGENET.to_json() | {"mean": [0, 0, 0], "std": [1, 1, 1]})
    assert spec.mean == (0.0, 0.0, 0.0)
    assert all(type(value) is float for value in spec.mean + spec.std)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resize", "longer"),
        ("resize", 3),
        ("resize", ["shorter"]),
        ("resize_size", [256, 224]),
        ("resize_size", 256),
        ("resize_size", [0, 0]),
        ("resize_size", [True, True]),
        ("interpolation", "cubic"),
        ("interpolation", None),
        ("crop_size", [224]),
        ("crop_size", [224.0, 224.0]),
        ("crop_size", [224, MAX_SIDE + 1]),
        ("crop_size", "224"),
        ("mean", [123.675, 116.28, 103.53]),
        ("mean", [0.5, 0.5]),
        ("mean", [0.5, 0.5, "0.5"]),
        ("mean", [0.5, 0.5, math.nan]),
        ("std", [0.229, 0.0, 0.225]),
        ("std", [58.4, 57.1, 57.4]),
        ("std", None),
    ],
)
def test_a_bad_field_is_named(field, value):
    with pytest.raises(ModelFileError, match=f"preprocess.{field} is"):
        Preprocess.from_json(IMAGENET.to_json() | {field: value})


def test_an_unknown_field_is_named():
    with pytest.raises(ModelFileError, match="unknown field gamma"):
        Preprocess.from_json(IMAGENET.to_json() | {"gamma": 1})


@pytest.mark.parametrize("field", list(IMAGENET.to_json()))
def test_a_missing_field_is_named(field):
    mapping = IMAGENET.to_json()
    del mapping[field]
    with pytest.raises(ModelFileError, match=f"lacks the field {field}"):
        Preprocess.from_json(mapping)


def test_something_else_than_an_object_is_refused():
    with pytest.raises(ModelFileError, match="must be an object"):
        Preprocess.from_json([1, 2])


def test_a_spec_is_checked_when_it_is_made_by_hand_too():
    with pytest.raises(ModelFileError, match=r"preprocess\.mean"):
        Preprocess("none", (1, 1), "bilinear", (1, 1), (124.0, 116.0, 104.0), (1.0, 1.0, 1.0))


def test_conventions_fit_into_a_card():
    assert json.loads(json.dumps(CONVENTIONS)) == CONVENTIONS
    assert {"exif_orientation", "cmyk", "sixteen_bit", "alpha", "animation"} <= set(CONVENTIONS)
