"""``torchvision:NAME``: torchvision's networks for classification, cut before their last layer."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import torch
import torchvision
from torch import nn
from torchvision.transforms._presets import ImageClassification

from trunkline_export import weights
from trunkline_export.backbone import Backbone
from trunkline_export.classifier import Classifier, kept
from trunkline_export.cutting.layout import tokens_of
from trunkline_export.sources.sizes import resized
from trunkline_export.variant import Size, Variant
from trunkline_export.weights import WeightsChoice
from trunkline_service.errors import ExportError, UnknownBackbone
from trunkline_service.images.preprocess import Interpolation, Preprocess
from trunkline_service.models.identity import OutputSpec
from trunkline_service.names import near

# Where torchvision's families keep their classifier.
_CLASSIFIERS = ("fc", "classifier", "head", "heads")
# Training heads that evaluation never runs.
_AUXILIARY = ("aux1", "aux2", "AuxLogits")
# Their weights were trained on another normalisation, which these networks apply inside themselves.
# torchvision's constructors leave it out where no weights are downloaded; a file's weights need it too.
_SELF_NORMALISING = ("googlenet", "inception_v3")


def load(name: str, choice: WeightsChoice, variant: Variant) -> Backbone:
    """Builds ``NAME`` or ``NAME@WEIGHTS``, e.g. ``resnet50@IMAGENET1K_V1``; see ``sources.load``."""
    architecture, _, wanted = name.partition("@")
    preset = _preset(architecture, wanted)
    transform = _transform(preset, variant.size)
    whole, node = _network(architecture, preset, choice)
    before: Mapping[str, torch.Tensor] = {}
    if variant.size is not None:
        before = dict(whole.state_dict())
        resized(whole, variant.size, f"torchvision:{name}")
    module, classifier = _split(whole, node, preset, choice, variant, f"torchvision:{name}")
    return Backbone(
        source=f"torchvision:{name}",
        # Weights that were asked for by name make a model of that name.
        name=f"{architecture}.{wanted.lower()}" if wanted else architecture,
        architecture=f"torchvision/{architecture}",
        module=module,
        transform=transform,
        preprocess=preprocess_of(transform),
        output=OutputSpec(node=f"{node}.input", pool="model"),
        pretrained=choice.pretrained,
        weights=choice.words(f"torchvision {preset}"),
        tools={"torchvision": torchvision.__version__},
        tokens=tokens_of(module),
        classifier=classifier,
        before_resizing=before,
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


def preset_names(architecture: str) -> list[str]:
    """The weights that torchvision has of a network, e.g. ``IMAGENET1K_V2``."""
    presets: Any = torchvision.models.get_model_weights(architecture)
    return list(presets.__members__)


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


def _transform(preset: Any, size: Size | None) -> Any:
    if size is None:
        return preset.transforms()
    if size[0] != size[1]:
        raise ExportError(
            f"torchvision's transforms crop squares, and the size asked for is {size[0]} x {size[1]}; "
            "give one number, or take the network from timm"
        )
    own = preset.transforms()
    # The crop keeps its share of the resized picture.
    share = own.resize_size[0] / own.crop_size[0]
    return preset.transforms(crop_size=size[0], resize_size=round(size[0] * share))


def _network(architecture: str, preset: Any, choice: WeightsChoice) -> tuple[nn.Module, str]:
    """The whole network, and the name of its classifier."""
    options: dict[str, Any] = {}
    if architecture in _SELF_NORMALISING:
        options = {"transform_input": True, "aux_logits": False}
    if choice.pretrained and choice.file is None:
        with weights.downloading(f"torchvision:{architecture}"):
            whole = torchvision.models.get_model(architecture, weights=preset, progress=False, **options)
        return whole.eval(), classifier_name(whole, architecture)
    if architecture in _SELF_NORMALISING:
        options["init_weights"] = True
    if architecture.startswith("vit_"):
        # The size of a vision transformer's position embedding follows from the weights.
        options["image_size"] = preset.meta["min_size"][0]
    tensors = weights.read(choice.file) if choice.file is not None else {}
    with weights.seeded():
        whole = torchvision.models.get_model(architecture, weights=None, **options)
    node = classifier_name(whole, architecture)
    if choice.file is not None:
        _fit_classes(whole, node, tensors)
        weights.load_into(
            whole,
            {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in _AUXILIARY},
            architecture=f"torchvision/{architecture}",
            file=choice.file.name,
            classifier=(node,),
        )
    return whole.eval(), node


def _fit_classes(whole: nn.Module, node: str, tensors: dict[str, Any]) -> None:
    """Gives the classifier as many outputs as the file has: a fine-tuned network has its own classes."""
    weight = tensors.get(f"{node}.weight")
    if weight is None:
        # A file of features alone, which are all that is wanted of it.
        _replace(whole, node, nn.Identity())
        return
    layer = cast("nn.Linear", whole.get_submodule(node))
    _replace(whole, node, nn.Linear(layer.in_features, len(weight), bias=f"{node}.bias" in tensors))


def _split(
    whole: nn.Module, node: str, preset: Any, choice: WeightsChoice, variant: Variant, source: str
) -> tuple[nn.Module, Classifier | None]:
    """The network without its classifier, and the classifier where it is wanted."""
    classifier = None
    module = whole
    if variant.keep_classifier:
        layer = whole.get_submodule(node)
        known = list(preset.meta["categories"])
        own = isinstance(layer, nn.Linear) and layer.out_features == len(known)
        names = variant.class_names or (known if own else [])
        # A head of random weights shall not become the next version of one that is in use.
        usual = own and not variant.class_names and choice.pretrained
        name = "imagenet1k" if usual else f"{source.partition(':')[2].replace('@', '-')}-classifier"
        guessed = bool(usual and choice.file is not None)
        classifier = replace(kept(name, layer, whole, names, source), guessed=guessed)
        module = deepcopy(whole)
    _replace(module, node, nn.Identity())
    return module.eval(), classifier


def classifier_name(network: nn.Module, architecture: str) -> str:
    """The name of the last linear layer, e.g. ``fc`` or ``classifier.1``.

    Raises:
        ExportError: The network does not end in one.
    """
    for attribute in _CLASSIFIERS:
        found = getattr(network, attribute, None)
        if isinstance(found, nn.Linear):
            return attribute
        if isinstance(found, nn.Sequential) and len(found) and isinstance(found[-1], nn.Linear):
            return f"{attribute}.{list(found._modules)[-1]}"
    raise ExportError(
        f"torchvision:{architecture} does not end in a linear layer, so its features can't be cut out; "
        "look for it in timm"
    )


def _replace(network: nn.Module, name: str, by: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, by)
