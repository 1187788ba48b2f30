"""From a backbone to a published model: trace, check, then publish whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path

import onnx
import onnxruntime
import torch

from trunkline_export import gate_images, parity
from trunkline_export.backbone import Backbone
from trunkline_export.candidate import Candidate
from trunkline_export.graph import opset_of, write_onnx
from trunkline_service.images.conventions import CONVENTIONS
from trunkline_service.models.card import Artifact, BatchRecord, ModelCard, ParityRecord
from trunkline_service.models.identity import artifact_id, file_sha256, space_id
from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.models.triton_config import MODEL_FILE
from trunkline_service.names import check_name

PRECISION = "fp32"


def _utc_now() -> datetime:
    return datetime.now(UTC)


def publish_backbone(
    backbone: Backbone,
    repository: ModelRepository,
    *,
    name: str | None = None,
    images: Sequence[bytes] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    now: Callable[[], datetime] = _utc_now,
) -> ModelFolder:
    """Exports a backbone that was built by whatever means, and publishes it if it passes the parity gate.

    Args:
        backbone: A network in evaluation mode with its own transform.
        repository: Where to publish.
        name: Of the model; without it, the backbone's own.
        images: Image files for the gate, instead of those made by ``gate_images``.
        progress: Is told, in a few words, what begins.
        now: The clock that the card is dated by.

    Raises:
        InvalidArgument: The name can't be one.
        ParityError: The exported graph does not compute the reference's vectors.
        ExportError: The network can't be traced, or not be run at every batch size.
        ModelFileError: Earlier versions of this name have another input or output shape.
        StorageError: The repository can't be written.
    """
    published_as = check_name(name or backbone.name, "model")
    gate = gate_images.made() if images is None else gate_images.given(list(images))
    with tempfile.TemporaryDirectory(prefix="trunkline-export-") as folder:
        path = Path(folder) / MODEL_FILE
        progress("tracing the network")
        dim = write_onnx(backbone, path)
        candidate = Candidate(path)
        progress(f"comparing with PyTorch on {len(gate)} images")
        verified = parity.check(backbone, candidate, gate)
        progress(f"running batches of {', '.join(map(str, parity.BATCH_SIZES))}")
        batch = parity.check_batches(backbone, candidate, parity.prepared(backbone, gate))
        progress("publishing")
        card = _card(backbone, path, dim, verified, batch, now())
        return repository.publish(path, lambda version: card(published_as, version))


def _card(
    backbone: Backbone,
    path: Path,
    dim: int,
    verified: ParityRecord,
    batch: BatchRecord,
    created: datetime,
) -> Callable[[str, int], ModelCard]:
    """The card, but for its name and version, which the repository gives."""
    sha256 = file_sha256(path)
    artifact = Artifact(
        artifact_id(sha256, PRECISION), PRECISION, sha256, path.stat().st_size, opset_of(path)
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
            dim=dim,
            output=backbone.output,
            preprocess=backbone.preprocess,
            conventions=CONVENTIONS,
            space_id=space,
            artifact=artifact,
            parity=verified,
            batch=batch,
            created_at=created.isoformat(timespec="seconds"),
            tools=tools,
            description=backbone.description,
        )

    return card
