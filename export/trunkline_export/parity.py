"""The parity gate (contract 2): our preprocessing and exported graph, against the original's and PyTorch.

Cosine alone proves nothing: random weights put different images at 0.99. So the gate asks three things:
the same pixels, a high cosine, and a difference that is small beside that of different images.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trunkline_export.backbone import Backbone
from trunkline_export.candidate import Candidate
from trunkline_export.gate_images import GateImage
from trunkline_service.errors import ExportError, ParityError
from trunkline_service.images.prepare import prepare_encoded
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.card import BatchRecord, ParityRecord
from trunkline_service.settings import ImageLimits

COSINE_FP32 = 0.999
SEPARATION_SHARE = 0.01
# The exact mode decodes JPEG with libjpeg-turbo, as Pillow does: no difference is allowed.
JPEG_BOUND = 0
BATCH_SIZES = (1, 2, 7, 16, 64)
BATCH_BOUND = 1e-4
_FEWEST = 4
_TOGETHER = 16

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Sides:
    """Both ways of embedding the gate's images; row i is image i.

    Attributes:
        ours: Pixels as the service prepares them, uint8 [N, height, width, 3].
        theirs: Pixels recovered from the original transform's output, likewise.
        candidate: Vectors of the exported graph on ``ours``, [N, dim].
        reference: Vectors of PyTorch on the original transform's output, [N, dim].
    """

    ours: Pixels
    theirs: Pixels
    candidate: Vectors
    reference: Vectors


def check(backbone: Backbone, candidate: Candidate, images: Sequence[GateImage]) -> ParityRecord:
    """Runs the gate.

    Raises:
        ParityError: A part failed; says which, with its figure and the worst image.
        ExportError: Too few images to know how far apart different ones are.
    """
    if len(images) < _FEWEST:
        raise ExportError(f"the parity gate needs at least {_FEWEST} images; it was given {len(images)}")
    return judge(run(backbone, candidate, images), images, backbone)


def run(backbone: Backbone, candidate: Candidate, images: Sequence[GateImage]) -> Sides:
    """Embeds every image both ways.

    Raises:
        ParityError: The original transform gives another size than the card says.
    """
    spec = backbone.preprocess
    ours = prepared(backbone, images)
    tensors = torch.stack([_original(backbone, image) for image in images])
    height, width = spec.input_size
    if tuple(tensors.shape[1:]) != (3, height, width):
        raise ParityError(
            f"{backbone.source}: parity failed in its pixels: the original transform gives "
            f"{list(tensors.shape[1:])}, the card says [3, {height}, {width}]"
        )
    with torch.inference_mode():
        parts = [backbone.module(part) for part in torch.split(tensors, _TOGETHER)]
    return Sides(
        ours=ours,
        theirs=recovered(tensors.numpy(), spec),
        candidate=np.concatenate([candidate.run(part) for part in _chunks(ours)]),
        reference=torch.cat(parts).numpy(),
    )


def prepared(backbone: Backbone, images: Sequence[GateImage]) -> Pixels:
    """The images as the service prepares them, uint8 [N, height, width, 3]."""
    spec, limits = backbone.preprocess, ImageLimits()
    return np.stack([prepare_encoded(image.data, spec, "exact", limits) for image in images])


def recovered(tensors: NDArray[np.float32], spec: Preprocess) -> Pixels:
    """Undoes the normalisation: float32 [N, 3, height, width] back to uint8 [N, height, width, 3]."""
    mean, std = (np.array(values, np.float64).reshape(1, 3, 1, 1) for values in (spec.mean, spec.std))
    values = np.rint((tensors * std + mean) * 255)
    return np.ascontiguousarray(values.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def judge(sides: Sides, images: Sequence[GateImage], backbone: Backbone) -> ParityRecord:
    """The three parts, all reported together.

    Raises:
        ParityError: A part failed.
    """
    pixels = np.abs(sides.ours.astype(np.int16) - sides.theirs).max(axis=(1, 2, 3))
    lossless = np.array([image.lossless for image in images])
    cosines = _cosines(sides.candidate, sides.reference)
    apart = separation(sides.reference)
    record = ParityRecord(
        status="verified",
        reference=f"PyTorch {torch.__version__} and the original transform, EXIF orientation applied",
        images=len(images),
        pixels_lossless_max=int(pixels[lossless].max(initial=0)),
        pixels_jpeg_max=int(pixels[~lossless].max(initial=0)),
        pixels_jpeg_bound=JPEG_BOUND,
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean()),
        cosine_required=COSINE_FP32,
        separation_median=apart,
        separation_share=float((1 - cosines).max() / apart) if apart > 0 else float("nan"),
        separation_allowed=SEPARATION_SHARE,
    )
    if failures := _failures(record):
        worst = images[int(np.argmin(cosines))] if pixels.max() == 0 else images[int(np.argmax(pixels))]
        raise ParityError(
            f"{backbone.source}: parity failed in its {'; in its '.join(failures)}. Worst: {worst.name}. "
            "Nothing was published"
        )
    return record


def separation(vectors: Vectors) -> float:
    """Median of 1 - cosine over all pairs of different rows."""
    units = _units(vectors)
    pairs = np.triu_indices(len(units), k=1)
    return float(np.median(1 - (units @ units.T)[pairs]))


def check_batches(backbone: Backbone, candidate: Candidate, pixels: Pixels) -> BatchRecord:
    """Runs every batch size and compares each vector with the one of its image alone (contract 3).

    Args:
        backbone: For messages.
        candidate: The exported graph.
        pixels: Different images, uint8 [N, height, width, 3]; repeated where a batch is larger.

    Raises:
        ExportError: A size can't be run, or company moves a vector further than ``BATCH_BOUND``.
    """
    alone = np.concatenate([candidate.run(pixels[i : i + 1]) for i in range(len(pixels))])
    worst = 0.0
    for size in BATCH_SIZES:
        rows = np.arange(size) % len(pixels)
        found, wanted = candidate.run(pixels[rows]), alone[rows]
        differences = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
        # Written so that NaN, which compares as false, fails.
        if not (differences <= BATCH_BOUND).all():
            raise ExportError(
                f"{backbone.source}: a batch of {size} gives other vectors than its images alone (relative "
                f"difference {differences.max():.2e}, {BATCH_BOUND:.0e} is allowed); nothing was published"
            )
        worst = max(worst, float(differences.max()))
    return BatchRecord(sizes=BATCH_SIZES, bound=BATCH_BOUND, measured=worst)


def _original(backbone: Backbone, image: GateImage) -> torch.Tensor:
    with Image.open(io.BytesIO(image.data)) as opened:
        return backbone.transform(ImageOps.exif_transpose(opened).convert("RGB"))


def _failures(record: ParityRecord) -> list[str]:
    """What failed, in words. Comparisons are written so that NaN fails."""
    parts = [
        (
            record.pixels_lossless_max == 0,
            f"pixels (lossless images differ by up to {record.pixels_lossless_max} of 255, 0 is allowed)",
        ),
        (
            record.pixels_jpeg_max <= record.pixels_jpeg_bound,
            f"pixels (JPEG images differ by up to {record.pixels_jpeg_max} of 255, "
            f"{record.pixels_jpeg_bound} is allowed)",
        ),
        (
            record.cosine_min >= record.cosine_required,
            f"cosine (smallest {record.cosine_min:.6f}, {record.cosine_required} is required)",
        ),
        (
            record.separation_share <= record.separation_allowed,
            f"separation (1 - cosine to the reference is up to {record.separation_share:.2%} of the median "
            f"{record.separation_median:.3g} between different images, "
            f"{record.separation_allowed:.0%} is allowed)",
        ),
    ]
    return [words for held, words in parts if not held]


def _cosines(left: Vectors, right: Vectors) -> NDArray[np.float64]:
    cosines: NDArray[np.float64] = (_units(left) * _units(right)).sum(axis=1)
    return cosines


def _units(vectors: Vectors) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    units: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return units


def _chunks(pixels: Pixels) -> list[Pixels]:
    return [pixels[start : start + _TOGETHER] for start in range(0, len(pixels), _TOGETHER)]
