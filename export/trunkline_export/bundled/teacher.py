"""The frozen teacher: DeiT-Tiny and what the student learns from it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from trunkline_export.bundled.photos import Pixels
from trunkline_export.bundled.student import EMBEDDING_DIM, MAP_SIZE, normalise

ARCHITECTURE = "deit_tiny_patch16_224"
INPUT_SIZE = 224
RESIZE = 248
"""Shorter side in pixels before the centre crop: timm's crop fraction of 0.9 for this network."""
PATCHES = INPUT_SIZE // 16


def load_teacher(weights: Path) -> nn.Module:
    """DeiT-Tiny in evaluation mode; `weights` is a safetensors file with timm's key names."""
    model: nn.Module = timm.create_model(ARCHITECTURE)
    model.load_state_dict(load_file(weights), strict=True)
    return model.eval().requires_grad_(False)


def teacher_targets(teacher: nn.Module, pixels: Pixels, bf16: bool) -> tuple[Tensor, Tensor]:
    """What the student is to predict for one batch.

    Parameters
    ----------
    pixels : uint8 (N, 224, 224, 3).
    bf16 : run matrix products in bfloat16, about twice as fast on CPUs with AVX512-BF16.

    Returns
    -------
    class_tokens : float32 (N, 192), the embedding proper, after the final LayerNorm.
    grids : float32 (N, 4, 4, 192), the patch tokens, averaged from 14 x 14 onto the student's map.
    """
    images = normalise(torch.from_numpy(pixels))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        tokens: Tensor = teacher.forward_features(images)  # type: ignore[operator]
    tokens = tokens.float()
    patches = tokens[:, 1:].transpose(1, 2).reshape(-1, EMBEDDING_DIM, PATCHES, PATCHES)
    grids = functional.adaptive_avg_pool2d(patches, MAP_SIZE).permute(0, 2, 3, 1)
    return tokens[:, 0], grids


def classifier(teacher: nn.Module) -> tuple[Tensor, Tensor]:
    """The teacher's own ImageNet layer: weight (1000, 192) and bias (1000,), float32."""
    head = teacher.get_submodule("head")
    if not isinstance(head, nn.Linear):
        raise TypeError(f"expected the teacher's head to be a Linear layer, found {type(head).__name__}")
    return head.weight, head.bias


def teacher_embeddings(teacher: nn.Module, pixels: Pixels) -> npt.NDArray[np.float32]:
    """Class tokens in full float32 precision, (N, 192)."""
    class_tokens, _ = teacher_targets(teacher, pixels, bf16=False)
    return class_tokens.numpy()
