"""Preprocessing as data: the eval transform that travels in the model card (contract 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast, get_args

from trunkline_service.errors import ModelFileError

Resize = Literal["shorter", "squash", "none"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]

# Networks take inputs of tens to a few thousand pixels a side; a larger number in a card is a
# mistake, and would let one small image ask for gigabytes.
MAX_SIDE = 8192


@dataclass(frozen=True)
class Preprocess:
    """How pixels become the network's input; resizing and cropping here, the rest in the graph.

    Attributes:
        resize: ``shorter`` (the shorter side becomes ``resize_size``, the ratio is kept),
            ``squash`` (to exactly ``resize_size``) or ``none``.
        resize_size: (height, width) in pixels; both equal for ``shorter``, unused for ``none``.
        interpolation: Pillow's resampling filter, antialiased when reducing.
        crop_size: (height, width) in pixels of the centre crop, which is the network's input.
        mean: Per channel (R, G, B), of values scaled to 0..1.
        std: Per channel (R, G, B), of values scaled to 0..1.

    Raises:
        ModelFileError: A field is outside its range; names it.
    """

    resize: Resize
    resize_size: tuple[int, int]
    interpolation: Interpolation
    crop_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        _require(self.resize in get_args(Resize), "resize", self.resize, _one_of(Resize))
        _require(
            self.interpolation in get_args(Interpolation),
            "interpolation",
            self.interpolation,
            _one_of(Interpolation),
        )
        for name, size in (("resize_size", self.resize_size), ("crop_size", self.crop_size)):
            in_range = len(size) == 2 and all(1 <= side <= MAX_SIDE for side in size)
            _require(in_range, name, size, f"[height, width], each 1..{MAX_SIDE}")
        if self.resize == "shorter":
            equal = self.resize_size[0] == self.resize_size[1]
            _require(equal, "resize_size", self.resize_size, "twice the same number when resize is 'shorter'")
        in_range = len(self.mean) == 3 and all(0 <= value <= 1 for value in self.mean)
        _require(in_range, "mean", self.mean, "3 numbers within 0..1 (of values scaled to 0..1)")
        in_range = len(self.std) == 3 and all(0 < value <= 1 for value in self.std)
        _require(in_range, "std", self.std, "3 numbers above 0 and up to 1 (of values scaled to 0..1)")

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input, in pixels."""
        return self.crop_size

    def to_json(self) -> dict[str, Any]:
        """The card's ``preprocess`` object; `from_json` reads it back."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> Preprocess:
        """Reads what `to_json` wrote.

        Raises:
            ModelFileError: An unknown, missing, badly typed or out-of-range field; names it.
        """
        if not isinstance(mapping, Mapping):
            raise ModelFileError(f"preprocess is {mapping!r}; it must be an object")
        names = [entry.name for entry in fields(cls)]
        if unknown := sorted(str(name) for name in mapping if name not in names):
            raise ModelFileError(
                f"preprocess has the unknown field {', '.join(unknown)}; it knows {', '.join(names)}"
            )
        if missing := [name for name in names if name not in mapping]:
            raise ModelFileError(f"preprocess lacks the field {', '.join(missing)}; export the model again")
        return cls(
            resize=cast("Resize", _text(mapping, "resize")),
            resize_size=_size(mapping, "resize_size"),
            interpolation=cast("Interpolation", _text(mapping, "interpolation")),
            crop_size=_size(mapping, "crop_size"),
            mean=_channels(mapping, "mean"),
            std=_channels(mapping, "std"),
        )


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise ModelFileError(f"preprocess.{name} is {value!r}; it must be {wanted}")


def _one_of(choices: Any) -> str:
    return "one of " + ", ".join(get_args(choices))


def _text(mapping: Mapping[str, Any], name: str) -> str:
    value = mapping[name]
    _require(isinstance(value, str), name, value, "text")
    return cast("str", value)


def _size(mapping: Mapping[str, Any], name: str) -> tuple[int, int]:
    value = mapping[name]
    typed = isinstance(value, (list, tuple)) and all(type(side) is int for side in value)
    _require(typed and len(value) == 2, name, value, "[height, width] in whole pixels")
    return (value[0], value[1])


def _channels(mapping: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    value = mapping[name]
    # JSON has one number type, so a mean of 0 arrives as an int; bool is an int to Python alone.
    typed = isinstance(value, (list, tuple)) and all(
        type(item) in (int, float) and math.isfinite(item) for item in value
    )
    _require(typed and len(value) == 3, name, value, "3 finite numbers")
    return (float(value[0]), float(value[1]), float(value[2]))
