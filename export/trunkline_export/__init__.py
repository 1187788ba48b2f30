"""Export of frozen backbones: a source and its weights in, a verified model in the repository out.

Importing this package is cheap; PyTorch is loaded by the first export.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline_service.errors import MissingExtra
from trunkline_service.models.repository import ModelFolder, ModelRepository

if TYPE_CHECKING:
    from trunkline_export.catalog import Listed
    from trunkline_service.heads.storage.registry import HeadRegistry

__all__ = ["export", "listed"]

_PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors")


def export(
    source: str,
    *,
    repository: ModelRepository,
    name: str | None = None,
    weights: Path | None = None,
    pretrained: bool = True,
    size: str | None = None,
    layers: Sequence[str] = (),
    pool: str | None = None,
    normalize: str = "none",
    keep_classifier: HeadRegistry | None = None,
    class_names: Sequence[str] = (),
    precision: str = "fp32",
    calibrate: Path | None = None,
    output: str | None = None,
    preprocess: Path | None = None,
    reference: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> ModelFolder:
    """Exports a backbone and publishes it as the next version of a model, if it passes the parity gate.

    Args:
        source: ``timm:NAME``, ``timm:NAME.TAG``, ``torchvision:NAME``, ``torchvision:NAME@WEIGHTS``,
            ``hf-hub:ORGANISATION/NAME`` or ``onnx:PATH``.
        repository: Where to publish.
        name: Of the model; without it the backbone's own, and what was chosen: ``resnet18-layer3-int8``.
        weights: A .safetensors, .pth or .pt file instead of a download.
        pretrained: False for reproducible random weights, whose vectors mean nothing.
        size: Of the input in pixels, ``384`` or ``384x256`` (height x width), where the network allows it.
        layers: Where to cut: names, or ``-k`` from the end; the penultimate feature without them.
        pool: ``avg``, ``max``, ``gem``, ``cls``, ``cls+avg``, ``flatten`` or ``none``.
        normalize: ``none`` or ``l2``.
        keep_classifier: Where to save the network's own last layer as a head.
        class_names: Of that head's classes, where the library does not know them.
        precision: ``fp32``, ``fp16`` or ``int8``.
        calibrate: A folder of images for the ranges of fp16 and int8; images made here without it.
        output: Of an ``onnx:`` source, the node or tensor that is the feature.
        preprocess: Of an ``onnx:`` source, a JSON file with its transform.
        reference: Of an ``onnx:`` source, a folder of images and ``vectors.npy`` to compare with.
        progress: Is told, in a few words, what begins.

    Returns:
        The published folder, with its card.

    Raises:
        MissingExtra: PyTorch or another package of the ``export`` extra is not installed.
        InvalidArgument: The name can't be one, or options are unknown or exclude each other.
        UnknownBackbone: No such source or name.
        WeightsError: The weights can't be fetched, read or loaded.
        ParityError: The exported graph does not compute the reference's vectors.
        ExportError: The network can't be cut there, traced, or run at every batch size.
        ModelFileError: Earlier versions of this name have another input or output shape.
        StorageError: The repository or the head can't be written.
    """
    _require_extra()
    from trunkline_export import line
    from trunkline_export.conversion import PrecisionChoice
    from trunkline_export.cutting.cut import CutChoice
    from trunkline_export.sources.onnx import OnnxRequest
    from trunkline_export.variant import Variant, parse_size
    from trunkline_export.weights import WeightsChoice

    order = line.Order(
        source=source,
        name=name,
        weights=WeightsChoice(weights, pretrained),
        variant=Variant(parse_size(size) if size else None, keep_classifier is not None, tuple(class_names)),
        cut=CutChoice(tuple(layers), pool, normalize),
        precision=PrecisionChoice(precision, calibrate),
        onnx=OnnxRequest(output, preprocess, pool, normalize, reference),
    )
    return line.export(order, repository, keep_classifier, progress or (lambda _: None))


def listed(pattern: str = "*") -> list[Listed]:
    """The backbones that ``timm:`` and ``torchvision:`` offer, by name.

    Args:
        pattern: A shell pattern over ``timm:NAME.TAG`` and ``torchvision:NAME@WEIGHTS``; a word without
            ``*`` matches anywhere.

    Raises:
        MissingExtra: The ``export`` extra is not installed.
    """
    _require_extra()
    from trunkline_export import catalog

    return catalog.listed(pattern)


def _require_extra() -> None:
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtra(
            f"exporting needs {', '.join(missing)}, which this installation lacks: "
            "pip install 'trunkline[export]'"
        )
