"""The way of an export: source -> cut -> graph -> gate -> published model, and its classifier as a head."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trunkline_export import sources
from trunkline_export.backbone import Backbone
from trunkline_export.classifier import Classifier
from trunkline_export.conversion import PrecisionChoice
from trunkline_export.cutting.cut import CutChoice, cut
from trunkline_export.gate.images import COUNT
from trunkline_export.joining.network import OnnxNetwork
from trunkline_export.publish import publish_backbone
from trunkline_export.sources.onnx import OnnxRequest, load_onnx
from trunkline_export.variant import Variant
from trunkline_export.weights import WeightsChoice
from trunkline_service.errors import InvalidArgument, ModelFileError, ModelNotFound, StorageError
from trunkline_service.heads.card import PRETRAINED
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.network import Linear, Network
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.models.identity import space_id
from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.names import check_name, is_name

_ONNX = "onnx"
_GUESSED = (
    "the names are those of ImageNet in its usual order, since the file has as many outputs; if it was trained on "
    "other classes, export it again with --class-names"
)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Order:
    """What is wanted.

    Attributes:
        source: ``LIBRARY:NAME``, or ``onnx:PATH``.
        name: Of the model, or None.
        weights: Where they come from.
        variant: Input size and classifier.
        cut: Where the network is cut.
        precision: Of the published file.
        onnx: What an ``onnx:`` source needs.

    Raises:
        InvalidArgument: Choices that exclude each other.
    """

    source: str
    name: str | None
    weights: WeightsChoice
    variant: Variant
    cut: CutChoice
    precision: PrecisionChoice
    onnx: OnnxRequest

    def __post_init__(self) -> None:
        if self.name is not None:
            # Before a download, rather than after it.
            check_name(self.name, "model")
        if self.is_onnx:
            self._check_onnx()
        elif self.onnx.output or self.onnx.preprocess or self.onnx.reference:
            raise InvalidArgument("--output, --preprocess and --reference are for onnx:PATH alone")
        if self.variant.keep_classifier and not self.cut.penultimate:
            raise InvalidArgument(
                "--keep-classifier needs the feature that the classifier was trained on: leave out --layer, "
                "--pool and --normalize, or export twice"
            )
        if self.variant.class_names and not self.variant.keep_classifier:
            raise InvalidArgument("--class-names is for --keep-classifier")

    @property
    def is_onnx(self) -> bool:
        """Whether the source is a file of ONNX."""
        return self.source.startswith(f"{_ONNX}:")

    def _check_onnx(self) -> None:
        chosen = {
            "--weights": self.weights.file is not None,
            "--no-pretrained": not self.weights.pretrained,
            "--size": self.variant.size is not None,
            "--keep-classifier": self.variant.keep_classifier,
            "--layer": bool(self.cut.layers),
        }
        if wrong := [option for option, is_chosen in chosen.items() if is_chosen]:
            raise InvalidArgument(
                f"{', '.join(wrong)} can't be used with onnx:PATH, which holds its weights and its size; "
                "--output says where to cut"
            )


def export(
    order: Order, repository: ModelRepository, heads: HeadRegistry | None, progress: Callable[[str], None]
) -> ModelFolder:
    """Carries out an order; see ``trunkline_export.export``."""
    progress(f"loading {order.source}")
    backbone: Backbone | OnnxNetwork
    if order.is_onnx:
        backbone = load_onnx(Path(order.source.partition(":")[2]), order.onnx)
        classifier = None
    else:
        loaded = sources.load(order.source, order.weights, order.variant)
        classifier = loaded.classifier
        backbone = cut(loaded, order.cut)
    named = _checked_name(order, backbone, repository)
    if classifier is not None:
        check_name(classifier.name, "head")
    folder = publish_backbone(backbone, repository, name=named, precision=order.precision, progress=progress)
    if classifier is not None and heads is not None:
        progress(f"saving the classifier as head {classifier.name}")
        try:
            heads.save(as_head(classifier, folder), classifier.name)
        except StorageError as exc:
            raise StorageError(
                f"model {folder.card.reference} was published, and its classifier was not saved: {exc.message}"
            ) from exc
    return folder


def _checked_name(order: Order, backbone: Backbone | OnnxNetwork, repository: ModelRepository) -> str:
    """The name to publish under; one that nobody gave must not bring another space to callers of that name."""
    if order.name is not None:
        return order.name
    name = default_name(backbone.name, order)
    if not is_name(name):
        raise InvalidArgument(f"the options would name the model {name!r}, which is no name; give --name")
    try:
        newest = repository.resolve(name).card
    except (ModelNotFound, ModelFileError):
        return name
    space = space_id(backbone.tensors(), backbone.architecture, backbone.preprocess, backbone.output)
    if newest.space_id != space:
        raise InvalidArgument(
            f"model {newest.reference} is of space {newest.space_id} ({newest.source}, {newest.weights}), and this "
            f"export makes vectors of {space}: callers of {name!r} would get other vectors. Give --name"
        )
    return name


def default_name(name: str, order: Order) -> str:
    """The backbone's name and what was chosen: another space or precision shall not become the next version
    of a name that is in use."""
    size = order.variant.size
    parts = [
        name,
        "" if size is None else "x".join(map(str, dict.fromkeys(size))),
        *(f"layer{layer}" if layer.startswith("-") else layer for layer in order.cut.layers),
        order.cut.pool or "",
        order.cut.normalize if order.cut.normalize != "none" else "",
        order.precision.name if order.precision.name != "fp32" else "",
    ]
    return _NOT_IN_NAMES.sub("-", "-".join(filter(None, parts)))


def as_head(classifier: Classifier, folder: ModelFolder) -> FittedHead:
    """A network's own last layer as a head of the published model's space."""
    card = folder.card
    digest = hashlib.sha256(classifier.weight.tobytes() + classifier.bias.tobytes())
    return FittedHead(
        kind=PRETRAINED,
        task="single-label",
        network=Network(Linear(classifier.weight, classifier.bias), "softmax"),
        classes=classifier.classes,
        space_id=card.space_id,
        model=card.reference,
        collection="",
        collection_version=0,
        training_hash=digest.hexdigest(),
        rows=0,
        hyper_parameters={"source": card.source, "weights": card.weights},
        temperature=1.0,
        evaluation=None,
        notes=(
            f"the classifier that came with {card.source}: in fp32 its logits are the whole network's, compared on "
            f"{COUNT} images made for the purpose",
            *(() if card.pretrained else ("its weights are random, so what it says means nothing",)),
            *((_GUESSED,) if classifier.guessed else ()),
        ),
    )
