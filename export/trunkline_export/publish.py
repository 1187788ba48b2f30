"""From a backbone to a published model: trace, check, convert, check again; then publish whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path

import onnx
import onnxruntime
import torch

from trunkline_export.backbone import Backbone
from trunkline_export.conversion import Judged, PrecisionChoice, converted
from trunkline_export.gate import images as gate_images
from trunkline_export.gate import parity
from trunkline_export.gate.candidate import Candidate
from trunkline_export.gate.classifier import check_classifier
from trunkline_export.gate.images import GateImage
from trunkline_export.gate.reference import Pixels, Reference, by_graph
from trunkline_export.joining.network import OnnxNetwork
from trunkline_export.tracing.graph import opset_of, write_onnx
from trunkline_service.errors import StorageError
from trunkline_service.images.conventions import CONVENTIONS
from trunkline_service.models.card import Artifact, BatchRecord, ModelCard, ParityRecord
from trunkline_service.models.identity import artifact_id, file_sha256, space_id
from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.models.triton_config import MODEL_FILE
from trunkline_service.names import check_name


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class _Checked:
    """A file that passed.

    Attributes:
        path: Of the file.
        precision: Its precision.
        dim: Length of its vectors.
        parity: The gate's run.
        batch: Batch invariance.
        conversion: How it was made from the fp32 graph; empty for that graph itself.
    """

    path: Path
    precision: str
    dim: int
    parity: ParityRecord
    batch: BatchRecord
    conversion: str


def publish_backbone(
    backbone: Backbone | OnnxNetwork,
    repository: ModelRepository,
    *,
    name: str | None = None,
    images: Sequence[bytes] | None = None,
    precision: PrecisionChoice | None = None,
    progress: Callable[[str], None] = lambda _: None,
    now: Callable[[], datetime] = _utc_now,
) -> ModelFolder:
    """Exports a backbone that was built by whatever means, and publishes it if it passes the parity gate.

    Args:
        backbone: A network in evaluation mode with its own transform; or one that exists only as ONNX.
        repository: Where to publish.
        name: Of the model; without it, the backbone's own.
        images: Image files for the gate, instead of those made by ``gate_images``.
        precision: Of the published file; fp32 without it.
        progress: Is told, in a few words, what begins.
        now: The clock that the card is dated by.

    Raises:
        InvalidArgument: The name can't be one.
        ParityError: The exported graph does not compute the reference's vectors.
        ExportError: The network can't be traced, or not be run at every batch size.
        ModelFileError: Earlier versions of this name have another input or output shape.
        StorageError: The repository, or the folder for temporary files, can't be written.
    """
    published_as = check_name(name or backbone.name, "model")
    gate = gate_images.made() if images is None else gate_images.given(list(images))
    try:
        with tempfile.TemporaryDirectory(prefix="trunkline-export-") as folder:
            checked = _checked(backbone, Path(folder), gate, precision or PrecisionChoice("fp32"), progress)
            progress("publishing")
            card = _card(backbone, checked, now())
            return repository.publish(checked.path, lambda version: card(published_as, version))
    except OSError as exc:
        raise StorageError(
            f"can't write the export's working files to {tempfile.gettempdir()}: {exc.strerror or exc}; make "
            "room there, or set TMPDIR to a folder with more; nothing was published"
        ) from exc


def _checked(
    backbone: Backbone | OnnxNetwork,
    folder: Path,
    gate: Sequence[GateImage],
    precision: PrecisionChoice,
    progress: Callable[[str], None],
) -> _Checked:
    path = folder / MODEL_FILE
    progress("tracing the network" if isinstance(backbone, Backbone) else "joining preprocessing and network")
    dim = write_onnx(backbone, path) if isinstance(backbone, Backbone) else backbone.write(path)
    candidate = Candidate(path)
    reference, pixels, verified = _verified(backbone, candidate, gate, progress)
    conversion = ""
    if precision.name != "fp32":
        judged = Judged(tuple(gate), pixels, reference)
        lower = converted(path, folder / f"{precision.name}.onnx", precision, backbone, judged, progress)
        path, conversion = lower.path, lower.words
        candidate = Candidate(path)
        # What was compared with the fp32 graph alone is no more verified than that graph is.
        verified = replace(lower.parity, status=verified.status)
    progress(f"running batches of {', '.join(map(str, parity.BATCH_SIZES))}")
    bound = parity.LIMITS[precision.name].batch
    batch = parity.check_batches(backbone.source, candidate, pixels, bound)
    return _Checked(path, precision.name, dim, verified, batch, conversion)


def _verified(
    backbone: Backbone | OnnxNetwork,
    candidate: Candidate,
    gate: Sequence[GateImage],
    progress: Callable[[str], None],
) -> tuple[Reference, Pixels, ParityRecord]:
    """The fp32 graph's record, and what other precisions are compared with on the gate's images."""
    if isinstance(backbone, Backbone):
        progress(f"comparing with PyTorch on {len(gate)} images")
        run = parity.run(backbone, candidate, gate)
        if backbone.classifier is not None:
            check_classifier(backbone, backbone.classifier, run.vectors, gate)
        return run.reference, run.pixels, run.record
    progress("comparing with the given vectors" if backbone.given else "no reference to compare with")
    pixels = parity.prepared(backbone.preprocess, gate)
    return by_graph(candidate, pixels), pixels, backbone.verified(candidate)


def _card(
    backbone: Backbone | OnnxNetwork, checked: _Checked, created: datetime
) -> Callable[[str, int], ModelCard]:
    """The card, but for its name and version, which the repository gives."""
    sha256 = file_sha256(checked.path)
    artifact = Artifact(
        artifact_id(sha256, checked.precision),
        checked.precision,
        sha256,
        checked.path.stat().st_size,
        opset_of(checked.path),
        checked.conversion,
    )
    space = space_id(backbone.tensors(), backbone.architecture, backbone.preprocess, backbone.output)
    tools = {
        **backbone.tools,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "trunkline": version_of("trunkline"),
    }

    def card(name: str, version: int) -> ModelCard:
        return ModelCard(
            name=name,
            version=version,
            source=backbone.source,
            architecture=backbone.architecture,
            pretrained=backbone.pretrained,
            weights=backbone.weights,
            license=backbone.license,
            parameters=backbone.parameters,
            dim=checked.dim,
            output=backbone.output,
            preprocess=backbone.preprocess,
            conventions=CONVENTIONS,
            space_id=space,
            artifact=artifact,
            parity=checked.parity,
            batch=checked.batch,
            created_at=created.isoformat(timespec="seconds"),
            tools=tools,
            description=backbone.description,
        )

    return card
