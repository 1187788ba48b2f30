"""``hf-hub:ORGANISATION/NAME``: networks of timm whose configuration and weights lie on the Hugging Face hub."""

from __future__ import annotations

from typing import Any

from timm.models import PretrainedCfg
from timm.models._hub import load_model_config_from_hf

from trunkline_export import weights
from trunkline_export.backbone import Backbone
from trunkline_export.sources.timm_network import Origin, ask_hub, backbone_of
from trunkline_export.variant import Variant
from trunkline_export.weights import WeightsChoice
from trunkline_service.errors import ExportError, UnknownBackbone

_CONFIG = "config.json"
_INSTEAD = "it says which network this is; where you know it, give timm:NAME with --weights FILE"


def load(name: str, choice: WeightsChoice, variant: Variant) -> Backbone:
    """Builds the network that a repository's ``config.json`` describes; see ``sources.load``."""
    if name.count("/") != 1:
        raise UnknownBackbone(
            f"hf-hub:{name} names no repository; write hf-hub:ORGANISATION/NAME, "
            "e.g. hf-hub:timm/resnet18.a1_in1k"
        )
    config, architecture, arguments = _described(name)
    origin = Origin(
        source=f"hf-hub:{name}",
        name=name.partition("/")[2],
        architecture=architecture,
        config=config,
        arguments=arguments,
        weights=f"hf-hub {name}",
    )
    return backbone_of(origin, choice, variant)


def _described(name: str) -> tuple[Any, str, dict[str, Any]]:
    with weights.downloading(f"hf-hub:{name}", wanted="the configuration", instead=_INSTEAD):
        ask_hub(name, _CONFIG)
        try:
            config, architecture, arguments = load_model_config_from_hf(name)
        except KeyError as exc:
            raise ExportError(
                f"hf-hub:{name}: its {_CONFIG} names no network of timm ({exc} is missing), and only those can "
                "be exported from the hub; export the network to ONNX yourself and give onnx:FILE"
            ) from exc
    known = {key: value for key, value in config.items() if key in PretrainedCfg.__dataclass_fields__}
    known["architecture"] = architecture
    return PretrainedCfg(**known), architecture, dict(arguments)
