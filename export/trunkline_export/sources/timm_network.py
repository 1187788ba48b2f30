"""Building a network of timm, with weights from a file, from the hub, or random."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import timm
import torch
from timm.data.config import resolve_data_config
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from timm.data.transforms_factory import create_transform

from trunkline_export import weights
from trunkline_export.backbone import Backbone
from trunkline_export.classifier import Classifier, kept
from trunkline_export.cutting.layout import tokens_of
from trunkline_export.sources.sizes import resized
from trunkline_export.variant import Variant
from trunkline_export.weights import WeightsChoice
from trunkline_service.errors import ExportError, WeightsError
from trunkline_service.images.preprocess import Interpolation, Preprocess
from trunkline_service.models.identity import OutputSpec

_HUB_ANSWERS_WITHIN_S = 10.0


@dataclass(frozen=True)
class Origin:
    """Where timm's description of a network comes from.

    Attributes:
        source: What was asked for.
        name: Of the model.
        architecture: Of the constructor.
        config: timm's configuration of the weights.
        arguments: Of the constructor, besides the weights.
        weights: Where the library's own weights come from, in words.
    """

    source: str
    name: str
    architecture: str
    config: Any
    arguments: Mapping[str, Any]
    weights: str

    @property
    def identity(self) -> str:
        """``timm/NAME``, with the arguments that make another network of it."""
        deciding = {key: value for key, value in self.arguments.items() if key != "num_classes"}
        return f"timm/{self.architecture}" + (json.dumps(deciding, sort_keys=True) if deciding else "")


def backbone_of(origin: Origin, choice: WeightsChoice, variant: Variant) -> Backbone:
    """The backbone; see ``sources.load``."""
    resolve: Any = resolve_data_config  # has no types
    height, width = variant.size or origin.config.input_size[1:]
    data = resolve({"input_size": (3, height, width)}, pretrained_cfg=origin.config.to_dict())
    preprocess = preprocess_of(data)
    network, classifier = _network(origin, choice, variant)
    before: Mapping[str, torch.Tensor] = {}
    if variant.size is not None:
        before = dict(network.state_dict())
        resized(network, variant.size, origin.source)
        if classifier is not None:
            resized(classifier.whole, variant.size, origin.source)
    return Backbone(
        source=origin.source,
        name=origin.name,
        architecture=origin.identity,
        module=network,
        transform=create_transform(**data, is_training=False),
        preprocess=preprocess,
        output=OutputSpec(node="pre_logits", pool="model"),
        pretrained=choice.pretrained,
        weights=choice.words(origin.weights),
        # The library knows the licence of its own weights, not of a file's.
        license=(origin.config.license or "") if choice.pretrained and choice.file is None else "",
        tools={"timm": timm.__version__},
        tokens=tokens_of(network),
        classifier=classifier,
        before_resizing=before,
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


def ask_hub(repository: str, file: str) -> None:
    """Fails at once where the hub can't be reached; left to itself it tries for most of a minute."""
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    if hub.try_to_load_from_cache(repository, file) is None:
        try:
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, file), timeout=_HUB_ANSWERS_WITHIN_S)
        except EntryNotFoundError:
            # The hub answers, and timm knows the other names that the file may have.
            return


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _network(
    origin: Origin, choice: WeightsChoice, variant: Variant
) -> tuple[torch.nn.Module, Classifier | None]:
    tensors = weights.read(choice.file) if choice.file is not None else None
    if tensors is not None and not variant.keep_classifier:
        return _from_file(origin, choice, tensors, classes=0), None
    # With its classifier, since timm forgives a download without one other tensors that lack.
    count = _class_count(origin, tensors)
    if variant.keep_classifier and count == 0:
        raise ExportError(
            f"--keep-classifier: {origin.source} comes without a classifier; export without it and fit a head"
        )
    whole: Any
    if tensors is not None:
        whole = _from_file(origin, choice, tensors, count)
    else:
        whole = _downloaded(origin, count) if choice.pretrained else _random(origin, count)
    if not variant.keep_classifier:
        return _without_classifier(whole, count), None
    guessed = tensors is not None and not variant.class_names and not origin.config.label_names
    classifier = kept(
        _head_name(origin, count, choice, variant),
        whole.get_classifier(),
        whole,
        variant.class_names or _class_names(origin, count),
        origin.source,
    )
    return _without_classifier(deepcopy(whole), count), replace(classifier, guessed=guessed)


def _without_classifier(whole: Any, classes: int) -> torch.nn.Module:
    if classes:
        whole.reset_classifier(0)
    network: torch.nn.Module = whole.eval()
    return network


def _random(origin: Origin, classes: int) -> torch.nn.Module:
    with weights.seeded():
        return _created(origin, pretrained=False, classes=classes).eval()


def _from_file(
    origin: Origin, choice: WeightsChoice, tensors: dict[str, torch.Tensor], classes: int
) -> torch.nn.Module:
    assert choice.file is not None
    network = _random(origin, classes)
    _load_file(network, tensors, origin, choice.file.name, classes)
    return network


def _load_file(
    network: torch.nn.Module, tensors: dict[str, torch.Tensor], origin: Origin, file: str, classes: int
) -> None:
    ignored = () if classes else _classifiers(origin)

    def load(found: Mapping[str, torch.Tensor]) -> None:
        weights.load_into(
            network, found, architecture=f"timm/{origin.architecture}", file=file, classifier=ignored
        )

    try:
        load(tensors)
    except WeightsError:
        renamed = _renamed(tensors, network, origin)
        if renamed is None:
            raise
        try:
            load(renamed)
            return
        except WeightsError:
            pass
        # Named as the user's file names them.
        raise


def _renamed(
    tensors: dict[str, torch.Tensor], network: torch.nn.Module, origin: Origin
) -> Mapping[str, torch.Tensor] | None:
    """The tensors under timm's names, where timm knows how the network's authors named them."""
    module = sys.modules[timm.model_entrypoint(origin.architecture).__module__]
    translate = getattr(module, "checkpoint_filter_fn", None)
    if translate is None:
        return None
    try:
        renamed: Mapping[str, torch.Tensor] = translate(dict(tensors), network)
    except (KeyError, IndexError, AttributeError, ValueError, RuntimeError, AssertionError):
        # Not the file that it was written for.
        return None
    return renamed


def _downloaded(origin: Origin, classes: int) -> torch.nn.Module:
    config = origin.config
    if not config.has_weights:
        raise WeightsError(
            f"timm offers no pretrained weights of {origin.name!r}; give --weights FILE, or --no-pretrained"
        )
    with weights.downloading(origin.source):
        if config.hf_hub_id:
            ask_hub(config.hf_hub_id, "model.safetensors")
        return _created(origin, pretrained=True, classes=classes).eval()


def _created(origin: Origin, pretrained: bool, classes: int) -> torch.nn.Module:
    arguments = {**origin.arguments, "num_classes": classes}
    network: torch.nn.Module = timm.create_model(
        origin.architecture, pretrained=pretrained, pretrained_cfg=origin.config, **arguments
    )
    return network


def _classifiers(origin: Origin) -> tuple[str, ...]:
    names = origin.config.classifier or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _class_count(origin: Origin, tensors: Mapping[str, torch.Tensor] | None) -> int:
    """Of the file where there is one: a fine-tuned network has its own."""
    count = int(origin.arguments.get("num_classes") or origin.config.num_classes)
    if tensors is not None:
        found = [tensors[f"{name}.weight"] for name in _classifiers(origin) if f"{name}.weight" in tensors]
        count = len(found[0]) if found else 0
    return count


def _class_names(origin: Origin, classes: int) -> list[str]:
    own = origin.config.label_names
    if own and len(own) == classes:
        described = origin.config.label_descriptions or {}
        return [str(described.get(name, name)) for name in own]
    subset = _imagenet(origin, classes)
    if subset is None:
        return []
    known = ImageNetInfo(subset)
    # The first of several synonyms.
    return [known.index_to_description(position).partition(",")[0] for position in range(classes)]


def _head_name(origin: Origin, classes: int, choice: WeightsChoice, variant: Variant) -> str:
    subset = None if variant.class_names else _imagenet(origin, classes)
    # A head of random weights shall not become the next version of one that is in use.
    return subset.replace("-", "") if subset and choice.pretrained else f"{origin.name}-classifier"


def _imagenet(origin: Origin, classes: int) -> str | None:
    """Which part of ImageNet the classes are; a file with another count was trained on something else."""
    if origin.config.label_names or classes != origin.config.num_classes:
        return None
    subset: str | None = infer_imagenet_subset({"num_classes": classes})
    return subset
