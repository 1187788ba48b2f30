"""A network's own last layer, kept as a head of its space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trunkline_service.errors import ExportError, InvalidArgument

_FEWEST = 2


@dataclass(frozen=True)
class Classifier:
    """The last layer, and the network with it.

    Attributes:
        name: Of the head, e.g. ``imagenet1k``.
        weight: (K, dim) float32.
        bias: (K,) float32.
        classes: K distinct names.
        guessed: Whether the names were taken from the number of outputs alone.
        whole: Normalised float32 [N, 3, height, width] to logits [N, K]; what parity is measured against.
    """

    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    classes: tuple[str, ...]
    whole: nn.Module
    guessed: bool = False


def kept(
    name: str, layer: nn.Module | None, whole: nn.Module, classes: Sequence[str], source: str
) -> Classifier:
    """The classifier of a network.

    Args:
        name: Of the head.
        layer: The network's last layer.
        whole: The network that it is part of, in evaluation mode.
        classes: Names of its outputs; empty for numbers.
        source: Of the backbone, for messages.

    Raises:
        ExportError: The network does not end in one linear layer.
        InvalidArgument: Another number of names than of outputs.
    """
    if isinstance(layer, nn.Identity):
        raise ExportError(
            f"--keep-classifier: the weights of {source} come without a classifier; export without it and fit "
            "a head"
        )
    if not isinstance(layer, nn.Linear):
        found = "none" if layer is None else type(layer).__name__
        raise ExportError(
            f"--keep-classifier: {source} does not end in one linear layer (its classifier is {found}), so it "
            "can't become a head; export without it and fit a head"
        )
    count = layer.out_features
    if count < _FEWEST:
        raise ExportError(
            f"--keep-classifier: {source} has a single output; a head has at least {_FEWEST} classes. Export "
            "without it and fit a head"
        )
    if classes and len(classes) != count:
        raise InvalidArgument(
            f"--class-names gives {len(classes)} names, and the classifier of {source} has {count} outputs"
        )
    bias = layer.bias if layer.bias is not None else torch.zeros(count)
    return Classifier(
        name=name,
        weight=layer.weight.detach().float().numpy().copy(),
        bias=bias.detach().float().numpy().copy(),
        classes=distinct(classes or [f"class {number}" for number in range(count)]),
        whole=whole,
    )


def distinct(classes: Sequence[str]) -> tuple[str, ...]:
    """The names, those that come twice told apart by their position: ImageNet has two cranes."""
    names = list(classes)
    # Once is enough but for names that end in such a number already.
    while len(set(names)) < len(names):
        counts = Counter(names)
        names = [f"{name} ({position})" if counts[name] > 1 else name for position, name in enumerate(names)]
    return tuple(names)
