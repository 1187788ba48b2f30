"""A backbone before export: a network, its own transform, and what is to be said of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image

from trunkline_export.classifier import Classifier
from trunkline_export.cutting.layout import Tokens
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.identity import OutputSpec


@dataclass(frozen=True)
class Backbone:
    """What an export starts from.

    Attributes:
        source: What was asked for, e.g. ``timm:deit_tiny_patch16_224``.
        name: Of the model, unless the user gives another.
        architecture: ``library/name``, as hashed into the space; no tags that only choose weights.
        module: In evaluation mode; normalised float32 [N, 3, height, width] to float32 [N, dim].
        transform: The *original* transform, an RGB image to normalised float32 [3, height, width].
            It is the reference that the parity gate trusts, so nothing may be derived from it here.
        preprocess: The same transform as data.
        output: Where the network is cut.
        pretrained: False for random weights.
        weights: Where they came from, in words, without paths.
        license: Of the weights, as far as known.
        tools: Versions of the libraries that the network came from.
        description: A sentence for people; may be empty.
        tokens: What the network puts before the tokens of its patches.
        whole: The network whose weights those are, where ``module`` wraps it.
        classifier: The network's own last layer, where it was asked for.
        before_resizing: Tensors as they were before another input size resampled them, by name. Resampling
            rounds as the machine at hand does, and the size is in ``preprocess``, so these are hashed.
    """

    source: str
    name: str
    architecture: str
    module: torch.nn.Module
    transform: Callable[[Image], torch.Tensor]
    preprocess: Preprocess
    output: OutputSpec
    pretrained: bool
    weights: str
    license: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    tokens: Tokens = field(default_factory=Tokens)
    whole: torch.nn.Module | None = None
    classifier: Classifier | None = None
    before_resizing: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def network(self) -> torch.nn.Module:
        """Holds the weights, under the names that are hashed."""
        return self.whole or self.module

    @property
    def parameters(self) -> int:
        """Number of values in the weights."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The weights by name. Floats are widened to float32, since NumPy has no bfloat16."""
        held = self.network.state_dict()
        return {name: _to_numpy(self.before_resizing.get(name, tensor)) for name, tensor in held.items()}


def _to_numpy(tensor: torch.Tensor) -> NDArray[np.generic]:
    values = tensor.detach().cpu()
    array: NDArray[np.generic] = (values.float() if values.is_floating_point() else values).numpy()
    return array
