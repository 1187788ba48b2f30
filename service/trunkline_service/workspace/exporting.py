"""A head as a file of its own, for any ONNX runtime: alone, or together with its backbone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline_service.collections.exchange.whole import check_folder, whole_files
from trunkline_service.errors import InvalidArgument, StorageError
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.serving.fused import fuse
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.models.card import ModelCard
from trunkline_service.models.repository import ModelRepository


@dataclass(frozen=True)
class Tensor:
    """An input or an output of the file.

    Attributes:
        name: Of it.
        dtype: ``uint8`` or ``float32``.
        shape: Numbers, and names of dimensions that are free.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class ExportedHead:
    """A head that was written to a file.

    Attributes:
        card: Of the head.
        model: Of the backbone that is in the file too; None for the head alone.
        path: The file.
        bytes: Its size.
        inputs: What it takes.
        outputs: What it gives.
    """

    card: HeadCard
    model: ModelCard | None
    path: Path
    bytes: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def export_head(
    heads: HeadRegistry, models: ModelRepository, head: str, path: Path, *, fused: bool, replace: bool
) -> ExportedHead:
    """See `Workspace.export_head`."""
    check_folder(path)
    if not replace and path.exists():
        raise InvalidArgument(
            f"{str(path)!r} is there already; name another file, or replace it with --force"
        )
    card, data = heads.read_model(head)
    model: ModelCard | None = None
    if fused:
        model, data = _with_backbone(models, card, data)
    inputs, outputs = _signature(data)
    try:
        with whole_files(path) as (file,):
            file.write(data)
    except OSError as exc:
        raise StorageError(
            f"head {card.ref} can't be written to {str(path)!r}: {exc.strerror or exc}"
        ) from exc
    return ExportedHead(card, model, path, len(data), inputs, outputs)


def _with_backbone(models: ModelRepository, card: HeadCard, data: bytes) -> tuple[ModelCard, bytes]:
    """The card of the model that the head was fitted with, and both as one."""
    if not card.model:
        raise InvalidArgument(
            f"head {card.ref} was fitted on vectors that no model of the repository made; export it without its "
            "backbone"
        )
    folder = models.resolve(card.model)
    folder.verify()
    return folder.card, fuse(folder.onnx, data, folder.card.space_id)


def _signature(data: bytes) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of an ONNX model that was checked already."""
    import onnx

    graph = onnx.load_from_string(data).graph
    return tuple(map(_tensor, graph.input)), tuple(map(_tensor, graph.output))


def _tensor(value: Any) -> Tensor:
    from onnx import helper

    kind = value.type.tensor_type
    shape = tuple(entry.dim_param or int(entry.dim_value) for entry in kind.shape.dim)
    return Tensor(value.name, str(helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape)
