"""Another input size than the weights were trained at, where the network allows it."""

from __future__ import annotations

from typing import Any

import torch

from trunkline_export.variant import Size
from trunkline_service.errors import ExportError


def resized(network: torch.nn.Module, size: Size, source: str) -> None:
    """Sets the input size in place: position embeddings and windows are resampled by the library's own rule.

    Networks that are convolutions throughout take any size as they are.

    Raises:
        ExportError: The network takes its own size alone, or none like this one.
    """
    setter: Any = getattr(network, "set_input_size", None)
    height, width = size
    try:
        if setter is not None:
            setter(img_size=size)
        with torch.no_grad():
            network(torch.zeros(2, 3, height, width))
    except (RuntimeError, ValueError, AssertionError, TypeError) as exc:
        first = next(iter(str(exc).strip().splitlines()), type(exc).__name__)
        raise ExportError(
            f"{source} can't take an input of {height} x {width} ({first}); "
            "try a multiple of its patch or window, or leave --size out"
        ) from exc
