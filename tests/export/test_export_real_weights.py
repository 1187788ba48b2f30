"""Real weights and photographs, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trunkline_service.images.prepare import prepare_encoded
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.settings import ImageLimits

torch = pytest.importorskip("torch", reason="needs the export extra")

import trunkline_export  # noqa: E402
from trunkline_export import sources  # noqa: E402
from trunkline_export.gate import images as gate_images  # noqa: E402
from trunkline_export.gate import parity  # noqa: E402
from trunkline_export.weights import WeightsChoice  # noqa: E402

REAL = [
    ("timm:deit_tiny_patch16_224", "deit_tiny_patch16_224.safetensors", 192, (248, "bicubic")),
    ("torchvision:resnet18", "resnet18_torchvision_keys_fp16.safetensors", 512, (256, "bilinear")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("source", "file", "dim", "resize"), REAL)
def test_real_weights_are_exported_exactly(
    source: str, file: str, dim: int, resize: tuple[int, str], assets: Path, repository: ModelRepository
) -> None:
    weights = assets / "weights" / file
    folder = trunkline_export.export(source, repository=repository, weights=weights)
    card = folder.card
    assert (card.dim, card.pretrained) == (dim, True)
    assert (card.preprocess.resize_size[0], card.preprocess.interpolation) == resize
    assert card.parity.cosine_min >= 0.99999
    assert card.parity.separation_share < 1e-4
    # Different images must lie well apart, or the share above would prove nothing.
    assert card.parity.separation_median > 0.2
    assert card.weights.startswith(f"{file} (sha256 ")
    assert str(assets).encode() not in folder.onnx.read_bytes() + card.dumps().encode()
    _photographs_agree(source, weights, ModelSession(folder, Device("cpu"), ExecutionPlan(2, 1, 16)), assets)


def _photographs_agree(source: str, weights: Path, session: ModelSession, assets: Path) -> None:
    """The gate's own images are drawn; photographs must agree as well."""
    files = sorted((assets / "images" / "hymenoptera" / "val" / "ants").iterdir())[:8]
    images = gate_images.given([file.read_bytes() for file in files])
    backbone = sources.load(source, WeightsChoice(weights))
    record = parity.run(backbone, session, images).record
    assert record.pixels_jpeg_max == 0
    assert record.cosine_min >= 0.99999
    ours = prepare_encoded(images[0].data, session.card.preprocess, "exact", ImageLimits())
    assert np.isfinite(session.run(ours[None])).all()
