"""Where backbones come from: a table by the word before the colon."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from trunkline_export.variant import Variant
from trunkline_service.errors import UnknownBackbone
from trunkline_service.names import near

if TYPE_CHECKING:
    from trunkline_export.backbone import Backbone
    from trunkline_export.weights import WeightsChoice

# Each module has load(name, choice, variant) -> Backbone; a library is imported when its prefix is asked for.
SOURCES: Final = {
    "timm": "trunkline_export.sources.timm",
    "torchvision": "trunkline_export.sources.torchvision",
    "hf-hub": "trunkline_export.sources.hub",
}


def load(source: str, choice: WeightsChoice, variant: Variant | None = None) -> Backbone:
    """Builds the backbone that a source names, with its weights.

    Raises:
        UnknownBackbone: No such prefix, or no such name behind it; names what is near.
        WeightsError: The weights can't be fetched, read or loaded.
        InvalidArgument: Another number of class names than of classes.
        ExportError: The network or its transform is of a kind that can't be exported.
    """
    prefix, colon, name = source.partition(":")
    if not colon or not name or prefix not in SOURCES:
        help_text = near(prefix, SOURCES) if colon else ""
        raise UnknownBackbone(
            f"{source!r} is no source of a backbone; sources are "
            f"{', '.join(f'{known}:NAME' for known in SOURCES)} and onnx:PATH, "
            f"e.g. timm:deit_tiny_patch16_224{help_text}"
        )
    backbone: Backbone = importlib.import_module(SOURCES[prefix]).load(name, choice, variant or Variant())
    return backbone
