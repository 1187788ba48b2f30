"""Where backbones come from: a table by the word before the colon."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from trunkline_service.errors import UnknownBackbone
from trunkline_service.names import near

if TYPE_CHECKING:
    from trunkline_export.backbone import Backbone
    from trunkline_export.weights import WeightsChoice

# Each module has load(name, choice) -> Backbone; a library is imported when its prefix is asked for.
SOURCES: Final = {
    "timm": "trunkline_export.sources.timm",
    "torchvision": "trunkline_export.sources.torchvision",
}


def load(source: str, choice: WeightsChoice) -> Backbone:
    """Builds the backbone that a source names, with its weights.

    Raises:
        UnknownBackbone: No such prefix, or no such name behind it; names what is near.
        WeightsError: The weights can't be fetched, read or loaded.
        ExportError: The network or its transform is of a kind that can't be exported.
    """
    prefix, colon, name = source.partition(":")
    if not colon or not name or prefix not in SOURCES:
        help_text = near(prefix, SOURCES) if colon else ""
        raise UnknownBackbone(
            f"{source!r} is no source of a backbone; sources are "
            f"{' and '.join(f'{known}:NAME' for known in SOURCES)}, "
            f"e.g. timm:deit_tiny_patch16_224{help_text}"
        )
    backbone: Backbone = importlib.import_module(SOURCES[prefix]).load(name, choice)
    return backbone
