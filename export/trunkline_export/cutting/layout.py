"""How the output of a layer lies: where its channels are, and which of its tokens are no patches.

Decided for each layer by its shape: networks that keep channels last inside have stems that do not, and
transformers put their class token in before one layer and not before another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from trunkline_export.cutting.pool import Layout
from trunkline_service.errors import ExportError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tokens:
    """What a network puts before the tokens of the patches.

    Attributes:
        prefix: Class and register tokens.
        class_token: Whether the first of them is a class token.
        patches: Tokens of patches at this input size, or None where the network does not say.
    """

    prefix: int = 0
    class_token: bool = False
    patches: int | None = None


def tokens_of(network: nn.Module) -> Tokens:
    """What timm's and torchvision's transformers say of themselves."""
    known: Any = network
    if hasattr(known, "seq_length") and hasattr(known, "class_token"):
        # torchvision's counts its class token among the sequence.
        return Tokens(1, True, int(known.seq_length) - 1)
    patches = getattr(getattr(known, "patch_embed", None), "num_patches", None)
    return Tokens(
        prefix=int(getattr(known, "num_prefix_tokens", 0)),
        class_token=getattr(known, "cls_token", None) is not None,
        patches=None if patches is None else int(patches),
    )


def layout_of(name: str, shape: Shape, input_size: tuple[int, int], tokens: Tokens, pool: str) -> Layout:
    """How a layer's output lies, for one pool.

    Args:
        name: Of the layer, for messages.
        shape: Of its output, without the batch.
        input_size: (height, width) of the network's input.
        tokens: What the network puts before its patches.
        pool: What will be done.

    Raises:
        ExportError: The shape does not say it, or there is no class token and the pool wants one.
    """
    if len(shape) == 3:
        return Layout(channels_last=_channels_last(name, shape, input_size))
    if len(shape) == 2:
        return Layout(prefix_tokens=_prefix(name, shape[0], tokens, pool))
    return Layout()


def _channels_last(name: str, shape: Shape, input_size: tuple[int, int]) -> bool:
    """A map keeps the ratio of the input's sides, so two neighbouring sides of its shape have that ratio."""
    first, second, third = shape
    if second == third == 1:
        return False
    last, before = _in_ratio((first, second), input_size), _in_ratio((second, third), input_size)
    if last == before:
        raise ExportError(
            f"layer {name!r} gives {list(shape)}, which does not say where its channels are; "
            "cut at another layer"
        )
    return last


def _in_ratio(sides: tuple[int, int], input_size: tuple[int, int]) -> bool:
    height, width = input_size
    if height == width:
        return sides[0] == sides[1]
    # Strides round each side by itself.
    return abs(sides[0] - sides[1] * height / width) <= 1


def _prefix(name: str, count: int, tokens: Tokens, pool: str) -> int:
    """Tokens before those of the patches, in a sequence of ``count``."""
    found: int | None = None
    if tokens.prefix == 0:
        found = 0
    elif tokens.patches is not None:
        found = {tokens.patches: 0, tokens.patches + tokens.prefix: tokens.prefix}.get(count)
    elif math.isqrt(count - tokens.prefix) ** 2 == count - tokens.prefix and math.isqrt(count) ** 2 != count:
        found = tokens.prefix
    if pool in ("cls", "cls+avg") and not (tokens.class_token and found):
        raise ExportError(
            f"pool {pool!r} needs a class token, and layer {name!r} has none among its {count} tokens; "
            "give --pool avg"
        )
    if found is None and pool not in ("flatten", "none"):
        raise ExportError(
            f"layer {name!r} gives {count} tokens, which does not say how many of them are of patches "
            f"(the network has {tokens.patches or 'some'} patches and {tokens.prefix} tokens before them); "
            "give --pool flatten, or cut at another layer"
        )
    return found or 0
