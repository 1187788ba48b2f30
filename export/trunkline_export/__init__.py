"""Export of frozen backbones: a source and its weights in, a verified model in the repository out.

Importing this package is cheap; PyTorch is loaded by the first export.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from trunkline_service.errors import MissingExtra
from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.names import check_name

__all__ = ["export"]

_PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors")


def export(
    source: str,
    *,
    repository: ModelRepository,
    name: str | None = None,
    weights: Path | None = None,
    pretrained: bool = True,
    progress: Callable[[str], None] | None = None,
) -> ModelFolder:
    """Exports a backbone and publishes it as the next version of a model, if it passes the parity gate.

    Args:
        source: ``timm:NAME``, ``timm:NAME.TAG``, ``torchvision:NAME`` or ``torchvision:NAME@WEIGHTS``.
        repository: Where to publish.
        name: Of the model; without it, the backbone's own.
        weights: A .safetensors, .pth or .pt file instead of a download.
        pretrained: False for reproducible random weights, whose vectors mean nothing.
        progress: Is told, in a few words, what begins.

    Returns:
        The published folder, with its card.

    Raises:
        MissingExtra: PyTorch or another package of the ``export`` extra is not installed.
        InvalidArgument: The name can't be one, or ``weights`` came with ``pretrained=False``.
        UnknownBackbone: No such source or name.
        WeightsError: The weights can't be fetched, read or loaded.
        ParityError: The exported graph does not compute the reference's vectors.
        ExportError: The network can't be cut, traced or run at every batch size.
        ModelFileError: Earlier versions of this name have another input or output shape.
        StorageError: The repository can't be written.
    """
    _require_extra()
    if name is not None:
        # Before a download, rather than after it.
        check_name(name, "model")
    from trunkline_export import sources
    from trunkline_export.publish import publish_backbone
    from trunkline_export.weights import WeightsChoice

    tell = progress or (lambda _: None)
    tell(f"loading {source}")
    backbone = sources.load(source, WeightsChoice(weights, pretrained))
    return publish_backbone(backbone, repository, name=name, progress=tell)


def _require_extra() -> None:
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtra(
            f"exporting needs {', '.join(missing)}, which this installation lacks: "
            "pip install 'trunkline[export]'"
        )
