"""``torchvision:NAME``: torchvision's networks for classification, cut before their last layer."""

from __future__ import annotations

from typing import Any, cast

import torchvision
from torch import nn
from torchvision.transforms._presets import ImageClassification

from trunkline_export import weights
from trunkline_export.backbone import Backbone
from trunkline_export.weights import WeightsChoice
from trunkline_service.errors import ExportError, UnknownBackbone
from trunkline_service.images.preprocess import Interpolation, Preprocess
from trunkline_service.models.identity import OutputSpec
from trunkline_service.names import near

# Where torchvision's families keep their classifier.
_CLASSIFIERS = ("fc", "classifier", "head", "heads")
# Their constructors normalise once more inside the network, or not, depending on how weights are asked for.
_SELF_NORMALISING = ("googlenet", "inception_v3")


def load(name: str, choice: WeightsChoice) -> Backbone:
    """Builds ``NAME`` or ``NAME@WEIGHTS``, e.g. ``resnet50@IMAGENET1K_V1``; see ``sources.load``."""
    architecture, _, wanted = name.partition("@")
    preset = _preset(architecture, wanted)
    transform = preset.transforms()
    module, node = _network(architecture, preset, choice)
    return Backbone(
        source=f"torchvision:{name}",
        name=architecture,
        architecture=f"torchvision/{architecture}",
        module=module,
        transform=transform,
        preprocess=preprocess_of(transform),
        output=OutputSpec(node=f"{node}.input", pool="model"),
        pretrained=choice.pretrained,
        weights=choice.words(f"torchvision {preset}"),
        tools={"torchvision": torchvision.__version__},
    )


def preprocess_of(transform: object) -> Preprocess:
    """torchvision's preset for classification as data of ours.

    Raises:
        ExportError: Another kind of preset.
    """
    if not isinstance(transform, ImageClassification) or len(transform.resize_size) != 1:
        raise ExportError(f"the transform {type(transform).__name__} of these weights has no equal here")
    shorter, crop = transform.resize_size[0], transform.crop_size[0]
    return Preprocess(
        resize="shorter",
        resize_size=(shorter, shorter),
        interpolation=cast("Interpolation", transform.interpolation.value),
        crop_size=(crop, crop),
        mean=cast("tuple[float, float, float]", tuple(transform.mean)),
        std=cast("tuple[float, float, float]", tuple(transform.std)),
    )


def _preset(architecture: str, wanted: str) -> Any:
    """A member of the network's enumeration of weights: those named, or torchvision's default."""
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        raise UnknownBackbone(f"torchvision has no network {architecture!r}{near(architecture, known)}")
    presets: Any = torchvision.models.get_model_weights(architecture)
    if wanted and wanted not in presets.__members__:
        raise UnknownBackbone(
            f"torchvision has no weights {wanted!r} of {architecture}{near(wanted, presets.__members__)}"
        )
    return presets[wanted or "DEFAULT"]


def _network(architecture: str, preset: Any, choice: WeightsChoice) -> tuple[nn.Module, str]:
    if architecture in _SELF_NORMALISING:
        raise ExportError(
            f"torchvision:{architecture} normalises its input a second time; "
            f"timm:{architecture} can be exported"
        )
    # The size of a vision transformer's position embedding follows from the weights.
    options = {"image_size": preset.meta["min_size"][0]} if architecture.startswith("vit_") else {}
    download = choice.pretrained and choice.file is None
    if download:
        with weights.downloading(f"torchvision:{architecture}"):
            network = torchvision.models.get_model(architecture, weights=preset, progress=False)
    else:
        with weights.seeded():
            network = torchvision.models.get_model(architecture, weights=None, **options)
    node = cut_classifier(network, architecture)
    if choice.file is not None:
        weights.load_into(
            network,
            weights.read(choice.file),
            architecture=f"torchvision/{architecture}",
            file=choice.file.name,
            classifier=(node,),
        )
    return cast("nn.Module", network.eval()), node


def cut_classifier(network: nn.Module, architecture: str) -> str:
    """Replaces the last linear layer by the identity, in place.

    Returns:
        Its name, e.g. ``fc`` or ``classifier.1``.

    Raises:
        ExportError: The network does not end in a linear layer.
    """
    for attribute in _CLASSIFIERS:
        found = getattr(network, attribute, None)
        if isinstance(found, nn.Linear):
            setattr(network, attribute, nn.Identity())
            return attribute
        if isinstance(found, nn.Sequential) and len(found) and isinstance(found[-1], nn.Linear):
            last = list(found._modules)[-1]
            found[-1] = nn.Identity()
            return f"{attribute}.{last}"
    raise ExportError(
        f"torchvision:{architecture} does not end in a linear layer, so its features can't be cut out; "
        "look for it in timm"
    )
