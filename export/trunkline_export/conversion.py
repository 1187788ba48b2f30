"""Another precision of a verified fp32 graph: fp16 for GPUs, int8 for CPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trunkline_export.backbone import Backbone
from trunkline_export.gate_images import GateImage
from trunkline_export.onnx_network import OnnxNetwork
from trunkline_export.reference import Pixels, Reference
from trunkline_service.errors import InvalidArgument

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class PrecisionChoice:
    """What is published.

    Attributes:
        name: One of ``PRECISIONS``.
        calibrate: A folder of images like those that will be served, for the ranges of int8 and fp16; without
            it images made here.

    Raises:
        InvalidArgument: Not one of those.
    """

    name: str = "fp32"
    calibrate: Path | None = None

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise InvalidArgument(f"precision is {self.name!r}; it must be one of {', '.join(PRECISIONS)}")
        if self.calibrate is not None and self.name == "fp32":
            raise InvalidArgument("--calibrate is for --precision int8 or fp16; fp32 needs no ranges")


def converted(
    source: Path,
    folder: Path,
    precision: PrecisionChoice,
    backbone: Backbone | OnnxNetwork,
    pixels: Pixels,
    reference: Reference,
    gate: Sequence[GateImage],
    progress: Callable[[str], None],
) -> tuple[Path, str]:
    """The converted file, and how it was made, in words."""
    raise NotImplementedError
