"""``timm:NAME``: the networks of pytorch-image-models."""

from __future__ import annotations

import warnings
from typing import Any

import timm
import torch

from trunkline_export.backbone import Backbone
from trunkline_export.sources.timm_network import Origin, backbone_of
from trunkline_export.variant import Variant
from trunkline_export.weights import WeightsChoice
from trunkline_service.errors import UnknownBackbone
from trunkline_service.names import near


def load(name: str, choice: WeightsChoice, variant: Variant) -> Backbone:
    """Builds ``NAME`` or ``NAME.TAG``; see ``sources.load``."""
    config = _config(name)
    tagged = f"{config.architecture}.{config.tag}" if config.tag else name
    origin = Origin(
        source=f"timm:{name}",
        name=name,
        architecture=config.architecture,
        config=config,
        arguments={},
        weights=f"timm {tagged}",
    )
    return backbone_of(origin, choice, variant)


def _config(name: str) -> Any:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UnknownBackbone(f"timm has no network {architecture!r}{near(architecture, timm.list_models())}")
    tags = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tags:
        raise UnknownBackbone(f"timm has no weights {name!r}{near(name, tags)}")
    return timm.get_pretrained_cfg(name) or _renamed(name)


def _renamed(name: str) -> Any:
    """The configuration behind a name that timm has given up, such as ``xception``."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        network: Any = timm.create_model(name)
    described = network.pretrained_cfg
    return timm.get_pretrained_cfg(".".join(filter(None, (described["architecture"], described.get("tag")))))
