"""The ``--preprocess`` file: what is done to an image before it reaches a network known only as ONNX."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from trunkline_service.errors import ExportError, InvalidArgument, ModelFileError
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.names import near

_TRANSFORM = tuple(field.name for field in fields(Preprocess))
_OWN: Final = {"layout": ("NCHW", "NHWC"), "channels": ("RGB", "BGR"), "channels_last": (True, False)}
_KNOWN = (*_TRANSFORM, *_OWN, "prefix_tokens")
_EXAMPLE = {
    "resize": "shorter",
    "resize_size": [256, 256],
    "interpolation": "bilinear",
    "crop_size": [224, 224],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


@dataclass(frozen=True)
class Described:
    """What the file says, and what follows from the network's input where it says nothing.

    Attributes:
        preprocess: The transform.
        layout: ``NCHW`` or ``NHWC``.
        channels: ``RGB`` or ``BGR``.
        prefix_tokens: Class and register tokens before those of the patches.
        channels_last: Whether the output is [N, H, W, C]; None to tell by its shape.
    """

    preprocess: Preprocess
    layout: str
    channels: str
    prefix_tokens: int
    channels_last: bool | None


def read_described(file: Path | None, name: str, dims: Sequence[int | str]) -> Described:
    """Reads the fields of a card's ``preprocess``, and where they differ from what is usual ``layout`` (NCHW
    or NHWC, of the input), ``channels`` (RGB or BGR), ``prefix_tokens`` and ``channels_last`` (of the output).

    Mean and std are in the order R, G, B for a network that takes BGR, too.

    Args:
        file: JSON.
        name: Of the network's file, for messages.
        dims: Of its input: four sizes, or names where they are free.

    Raises:
        InvalidArgument: No file, no JSON, or a field that is missing, unknown or impossible; names it.
        ExportError: The network does not take RGB images.
    """
    if file is None:
        raise InvalidArgument(
            f"onnx:{name} needs --preprocess FILE, which says in JSON what is done to an image before the "
            f"network, e.g. {json.dumps(_EXAMPLE)}"
        )
    found = _fields(file)
    for key, known in _OWN.items():
        # By type too: JSON's 1 is no true.
        if key in found and not any(
            found[key] == value and type(found[key]) is type(value) for value in known
        ):
            words = " or ".join(json.dumps(value) for value in known)
            raise InvalidArgument(f"{file.name}: {key} is {json.dumps(found[key])}; it must be {words}")
    tokens = found.get("prefix_tokens", 0)
    if type(tokens) is not int or tokens < 0:
        raise InvalidArgument(
            f"{file.name}: prefix_tokens is {json.dumps(tokens)}; it must be a number from 0 on"
        )
    try:
        preprocess = Preprocess.from_json({key: found[key] for key in _TRANSFORM})
    except ModelFileError as exc:
        raise InvalidArgument(f"{file.name}: {exc.message}") from exc
    layout = found.get("layout") or _layout_of(dims, name, file.name)
    _check_input(dims, layout, preprocess.input_size, name, file.name)
    return Described(preprocess, layout, found.get("channels", "RGB"), tokens, found.get("channels_last"))


def _fields(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InvalidArgument(f"--preprocess {file.name} can't be read as JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise InvalidArgument(f"--preprocess {file.name} holds no JSON object")
    if unknown := [key for key in found if key not in _KNOWN]:
        raise InvalidArgument(
            f"{file.name}: there is no field {unknown[0]!r}{near(unknown[0], _KNOWN)}; the fields are "
            f"{', '.join(_KNOWN)}"
        )
    if missing := [key for key in _TRANSFORM if key not in found]:
        example = json.dumps({key: _EXAMPLE[key] for key in missing})
        raise InvalidArgument(f"{file.name}: {', '.join(missing)} is missing, e.g. {example}")
    return found


def _layout_of(dims: Sequence[int | str], name: str, file: str) -> str:
    if (dims[1] == 3) == (dims[3] == 3):
        raise InvalidArgument(
            f"onnx:{name} takes [{_shown(dims)}], which does not say where three channels lie; add "
            f'"layout": "NCHW" or "NHWC" to {file}'
        )
    return "NCHW" if dims[1] == 3 else "NHWC"


def _check_input(dims: Sequence[int | str], layout: str, size: tuple[int, int], name: str, file: str) -> None:
    """Compares what the network says of its input with the file, as far as it says anything."""
    wanted = (3, *size) if layout == "NCHW" else (*size, 3)
    differing = [
        (said, needed)
        for said, needed in zip(dims[1:], wanted, strict=True)
        if isinstance(said, int) and said != needed
    ]
    if any(needed == 3 for _, needed in differing):
        raise ExportError(
            f"onnx:{name} takes [{_shown(dims)}], which is no batch of RGB images in {layout}; only networks "
            "of three channels can be exported"
        )
    if differing:
        raise InvalidArgument(
            f"onnx:{name} takes [{_shown(dims)}], and crop_size in {file} is {list(size)}; it must be the "
            "height and width of the network's input"
        )


def _shown(dims: Sequence[int | str]) -> str:
    return ", ".join(map(str, dims))
