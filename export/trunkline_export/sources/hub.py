"""``hf-hub:ORGANISATION/NAME``: networks of timm whose configuration and weights lie on the Hugging Face hub."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import timm
import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
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
# Of the constructor's caller, not of the network: a configuration from the hub may not name files to load.
_NOT_THEIRS = set(inspect.signature(timm.create_model).parameters) - {"kwargs"}
_CLASSES = "num_classes"
# Of a module: compared by themselves, and timm's record of the arguments.
_HELD = ("_modules", "_parameters", "_buffers", "_model_args")


def load(name: str, choice: WeightsChoice, variant: Variant) -> Backbone:
    """Builds the network that a repository's ``config.json`` describes; see ``sources.load``."""
    _check_id(name)
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


def _check_id(name: str) -> None:
    try:
        validate_repo_id(name)
        well_formed = "/" in name
    except HFValidationError:
        well_formed = False
    if not well_formed:
        revision = "; a revision can't be chosen, the main branch is read" if "@" in name else ""
        raise UnknownBackbone(
            f"hf-hub:{name} names no repository; write hf-hub:ORGANISATION/NAME, "
            f"e.g. hf-hub:timm/resnet18.a1_in1k{revision}"
        )


def _described(name: str) -> tuple[PretrainedCfg, str, dict[str, Any]]:
    """timm's configuration of the weights, the architecture, and the constructor's arguments."""
    with weights.downloading(f"hf-hub:{name}", wanted="the configuration", instead=_INSTEAD):
        ask_hub(name, _CONFIG)
        try:
            config, architecture, arguments = load_model_config_from_hf(name)
        except KeyError as exc:
            raise ExportError(
                f"hf-hub:{name}: its {_CONFIG} names no network of timm ({exc} is missing), and only those can "
                "be exported from the hub; export the network to ONNX yourself and give onnx:FILE"
            ) from exc
        except (ValueError, TypeError, AttributeError) as exc:
            raise ExportError(f"hf-hub:{name}: its {_CONFIG} can't be read: {exc}") from exc
    if not timm.is_model(architecture):
        raise UnknownBackbone(
            f"hf-hub:{name} is a network {architecture!r}, which timm {timm.__version__} does not have; "
            "a newer timm may"
        )
    known = {key: value for key, value in config.items() if key in PretrainedCfg.__dataclass_fields__}
    known |= {"architecture": architecture, "label_names": _labels(config)}
    described = PretrainedCfg(**known)
    return described, architecture, _deciding(name, described, arguments)


def _labels(config: Mapping[str, Any]) -> list[str] | None:
    """Names of the classes in their order; none where a table of them, ``{"0": "cat"}``, has gaps."""
    found = config.get("label_names")
    if not isinstance(found, Mapping):
        return found
    named = {int(position): str(label) for position, label in found.items() if str(position).isdecimal()}
    if sorted(named) != list(range(len(found))):
        return None
    return [named[position] for position in range(len(named))]


def _deciding(name: str, config: PretrainedCfg, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without those that are what the network has anyway.

    timm writes them all into a configuration, and they are part of the space: the same network shall be in the
    same one, whether it is asked for here or as ``timm:NAME``.
    """
    if refused := sorted(_NOT_THEIRS.intersection(arguments)):
        raise ExportError(f"hf-hub:{name}: its {_CONFIG} sets {', '.join(refused)}, which no network has")
    kept = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    try:
        wanted = _anatomy(config, kept)
        # One by one, since what one does may hang on another.
        for key in sorted(kept.keys() - {_CLASSES}):
            fewer = {other: value for other, value in kept.items() if other != key}
            if _anatomy(config, fewer) == wanted:
                kept = fewer
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as exc:
        raise ExportError(
            f"hf-hub:{name}: timm {timm.__version__} can't build {config.architecture!r} as its {_CONFIG} says: {exc}"
        ) from exc
    return kept


def _anatomy(config: PretrainedCfg, arguments: Mapping[str, Any]) -> list[object]:
    """All that a network is made of but the values of its tensors, to be compared."""
    with torch.device("meta"):
        network: torch.nn.Module = timm.create_model(
            str(config.architecture), pretrained_cfg=config, **{**arguments, _CLASSES: 0}
        )
    parts: list[object] = [
        (name, type(part), {key: repr(value) for key, value in vars(part).items() if key not in _HELD})
        for name, part in network.named_modules()
    ]
    parts += [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]
    return parts
