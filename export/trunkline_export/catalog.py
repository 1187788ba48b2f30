"""What can be exported: names, input sizes, parameters and licences, without a download."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
import torchvision

# A network must be built to be counted, which takes a tenth of a second each.
_COUNTED_AT_MOST = 60


@dataclass(frozen=True)
class Listed:
    """One set of weights.

    Attributes:
        source: What to give to ``export``.
        height: Of the input, in pixels.
        width: Of the input, in pixels.
        parameters: Number of values without the classifier of timm's, with that of torchvision's; None where
            it was not counted.
        license: Of the weights, as far as the library says; else empty.
    """

    source: str
    height: int
    width: int
    parameters: int | None
    license: str


def listed(pattern: str) -> list[Listed]:
    """The weights whose source matches, by name; parameters of timm's are counted for short lists alone."""
    wanted = (pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*").lower()
    names = [name for name in _timm_names() if _matches(f"timm:{name}", wanted)]
    counted = len(names) <= _COUNTED_AT_MOST
    found = [_of_timm(name, counted) for name in names]
    found += [entry for entry in _of_torchvision() if _matches(entry.source, wanted)]
    return sorted(found, key=lambda entry: entry.source)


def _matches(source: str, pattern: str) -> bool:
    low = source.lower()
    return fnmatch.fnmatchcase(low, pattern) or fnmatch.fnmatchcase(low.partition(":")[2], pattern)


def _timm_names() -> list[str]:
    names: list[str] = timm.list_pretrained()
    return names


def _of_timm(name: str, counted: bool) -> Listed:
    config: Any = timm.get_pretrained_cfg(name)
    _, height, width = config.input_size
    parameters = _count(config.architecture) if counted else None
    return Listed(f"timm:{name}", height, width, parameters, config.license or "")


def _of_torchvision() -> Iterator[Listed]:
    for name in torchvision.models.list_models(module=torchvision.models):
        presets: Any = torchvision.models.get_model_weights(name)
        for preset in presets:
            crop = preset.transforms().crop_size[0]
            yield Listed(f"torchvision:{name}@{preset.name}", crop, crop, int(preset.meta["num_params"]), "")


@cache
def _count(architecture: str) -> int | None:
    """Parameters of a network that is built without memory for them."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        try:
            network = timm.create_model(architecture, num_classes=0)
        except (RuntimeError, NotImplementedError):
            # Its constructor computes with values, which there are none of.
            return None
    return sum(parameter.numel() for parameter in network.parameters())
