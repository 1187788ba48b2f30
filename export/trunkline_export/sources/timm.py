"""``timm:NAME``: the networks of pytorch-image-models."""

from __future__ import annotations

import math
from typing import Any, cast, get_args

import timm
import torch
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from trunkline_export import weights
from trunkline_export.backbone import Backbone
from trunkline_export.weights import WeightsChoice
from trunkline_service.errors import ExportError, UnknownBackbone, WeightsError
from trunkline_service.images.preprocess import Interpolation, Preprocess
from trunkline_service.models.identity import OutputSpec
from trunkline_service.names import near

_HUB_ANSWERS_WITHIN_S = 10.0


def load(name: str, choice: WeightsChoice) -> Backbone:
    """Builds ``NAME`` or ``NAME.TAG``; see ``sources.load``."""
    config = _config(name)
    resolve: Any = resolve_data_config  # has no types
    data = resolve(pretrained_cfg=config.to_dict())
    return Backbone(
        source=f"timm:{name}",
        name=name,
        architecture=f"timm/{config.architecture}",
        module=_network(name, config, choice),
        transform=create_transform(**data, is_training=False),
        preprocess=preprocess_of(data),
        output=OutputSpec(node="pre_logits", pool="model"),
        pretrained=choice.pretrained,
        weights=choice.words(f"timm {config.architecture}.{config.tag}" if config.tag else f"timm {name}"),
        # The library knows the licence of its own weights, not of a file's.
        license=(config.license or "") if choice.pretrained and choice.file is None else "",
        tools={"timm": timm.__version__},
    )


def preprocess_of(data: dict[str, Any]) -> Preprocess:
    """timm's data configuration as data of ours.

    Args:
        data: ``input_size``, ``interpolation``, ``crop_pct``, ``crop_mode``, ``mean``, ``std``.

    Raises:
        ExportError: A crop mode, a filter or an input that has no equal here.
    """
    channels, height, width = data["input_size"]
    if channels != 3:
        raise ExportError(f"the network takes {channels} channels; only RGB can be exported")
    if data["interpolation"] not in get_args(Interpolation):
        raise ExportError(
            f"interpolation {data['interpolation']!r} has no equal here; choose another backbone"
        )
    # As timm's transforms_imagenet_eval computes it.
    scaled = (math.floor(height / data["crop_pct"]), math.floor(width / data["crop_pct"]))
    mode = data["crop_mode"]
    if mode not in ("center", "squash") or (mode == "center" and scaled[0] != scaled[1]):
        raise ExportError(
            f"crop mode {mode!r} with an input of {height} x {width} has no equal here; "
            "square inputs with 'center', and 'squash', can be exported"
        )
    return Preprocess(
        resize="shorter" if mode == "center" else "squash",
        resize_size=scaled,
        interpolation=cast("Interpolation", data["interpolation"]),
        crop_size=(height, width),
        mean=_three(data["mean"]),
        std=_three(data["std"]),
    )


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _config(name: str) -> Any:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UnknownBackbone(f"timm has no network {architecture!r}{near(architecture, timm.list_models())}")
    tags = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tags:
        raise UnknownBackbone(f"timm has no weights {name!r}{near(name, tags)}")
    return timm.get_pretrained_cfg(name)


def _network(name: str, config: Any, choice: WeightsChoice) -> torch.nn.Module:
    with weights.seeded():
        network: torch.nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    if choice.file is not None:
        heads = config.classifier or ()
        weights.load_into(
            network,
            weights.read(choice.file),
            architecture=f"timm/{config.architecture}",
            file=choice.file.name,
            classifier=(heads,) if isinstance(heads, str) else heads,
        )
    elif choice.pretrained:
        network = _downloaded(name, config)
    return network.eval()


def _downloaded(name: str, config: Any) -> torch.nn.Module:
    if not config.has_weights:
        raise WeightsError(
            f"timm offers no pretrained weights of {name!r}; give --weights FILE, or --no-pretrained"
        )
    with weights.downloading(f"timm:{name}"):
        if config.hf_hub_id:
            _ask_hub(config.hf_hub_id)
        network: torch.nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
    return network


def _ask_hub(repository: str) -> None:
    """Fails at once where the hub can't be reached; left to itself it tries for most of a minute."""
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    file = "model.safetensors"
    if hub.try_to_load_from_cache(repository, file) is None:
        try:
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, file), timeout=_HUB_ANSWERS_WITHIN_S)
        except EntryNotFoundError:
            # The hub answers, and timm knows the other names that the file may have.
            return
