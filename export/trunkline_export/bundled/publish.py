"""The last step: the student's weights through the ordinary export, into the package."""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision
from torchvision.transforms import v2

from trunkline_export.backbone import Backbone
from trunkline_export.bundled.student import ARCHITECTURE, INPUT_SIZE, MEAN, STD, load_student
from trunkline_export.publish import publish_backbone
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.identity import OutputSpec
from trunkline_service.models.repository import ModelFolder, ModelRepository

NAME = "trunkline-small"


def backbone(weights: Path) -> Backbone:
    """The student as any other backbone, with torchvision's transform as the reference.

    Args:
        weights: A safetensors file that ``train`` wrote.
    """
    reference = v2.Compose(
        [
            v2.Resize(INPUT_SIZE, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(INPUT_SIZE),
            v2.PILToTensor(),
            v2.ToDtype(dtype=torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return Backbone(
        source=f"trunkline:{NAME}",
        name=NAME,
        architecture=f"trunkline/{ARCHITECTURE}",
        module=load_student(weights),
        transform=reference,
        preprocess=Preprocess(
            resize="shorter",
            resize_size=(INPUT_SIZE, INPUT_SIZE),
            interpolation="bicubic",
            crop_size=(INPUT_SIZE, INPUT_SIZE),
            mean=MEAN,
            std=STD,
        ),
        output=OutputSpec("project", "avg"),
        pretrained=True,
        weights="distilled from DeiT-Tiny (ImageNet-1k) by trunkline_export.bundled",
        license="apache-2.0",
        tools={"torchvision": torchvision.__version__},
        description="A small student of DeiT-Tiny's embedding, for first steps and tests.",
    )


def publish(weights: Path, root: Path) -> ModelFolder:
    """Exports the student into the repository at ``root``; the parity gate decides, as for any backbone.

    Raises:
        ParityError, ExportError, StorageError: See ``publish_backbone``.
    """
    return publish_backbone(backbone(weights), ModelRepository(root, bundled=root))
