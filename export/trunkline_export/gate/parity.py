"""The parity gate (contract 2): our preprocessing and exported graph, against a reference.

Cosine alone proves nothing: random weights put different images at 0.99. So the gate asks three things:
the same pixels, a high cosine, and a difference that is small beside that of different images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trunkline_export.backbone import Backbone
from trunkline_export.gate.candidate import Candidate
from trunkline_export.gate.images import GateImage
from trunkline_export.gate.reference import Pixels, Reference, Vectors, by_pytorch, embedded
from trunkline_service.errors import ExportError, ParityError
from trunkline_service.images.prepare import prepare_encoded
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.card import BatchRecord, ParityRecord
from trunkline_service.settings import ImageLimits


@dataclass(frozen=True)
class Limits:
    """What a precision must keep.

    Attributes:
        cosine: The least allowed cosine with the reference.
        of: Which cosine that is: the ``smallest`` or the ``mean`` one.
        share: The largest allowed 1 - cosine, as a share of the median between different images.
        batch: The largest allowed move of a vector by the company of other images, relative L2.
    """

    cosine: float
    of: str
    share: float
    batch: float


# Lower precisions round at every layer, so that a last-bit difference of a sum (another batch size sums in
# another order) can move a value by a whole step.
LIMITS: Final = {
    "fp32": Limits(cosine=0.999, of="smallest", share=0.01, batch=1e-4),
    "fp16": Limits(cosine=0.998, of="smallest", share=0.01, batch=1e-2),
    "int8": Limits(cosine=0.99, of="mean", share=0.05, batch=5e-2),
}
# The exact mode decodes JPEG with libjpeg-turbo, as Pillow does: no difference is allowed.
JPEG_BOUND = 0
BATCH_SIZES = (1, 2, 7, 16, 64)
_FEWEST = 4


@dataclass(frozen=True)
class Run:
    """A run of the gate that passed; row i is image i.

    Attributes:
        pixels: As the service prepares them, uint8 [N, height, width, 3].
        vectors: Of the exported graph, float32 [N, dim].
        reference: The other side.
        record: For the card.
    """

    pixels: Pixels
    vectors: Vectors
    reference: Reference
    record: ParityRecord


def run(backbone: Backbone, candidate: Candidate, images: Sequence[GateImage]) -> Run:
    """Runs the gate of the fp32 graph against PyTorch and the original transform.

    Raises:
        ParityError: A part failed; says which, with its figure and the worst image.
        ExportError: Too few images to know how far apart different ones are.
    """
    enough(images)
    pixels = prepared(backbone.preprocess, images)
    reference = by_pytorch(backbone, images)
    vectors = embedded(candidate, pixels)
    record = judge(pixels, vectors, reference, images, LIMITS["fp32"], backbone.source)
    return Run(pixels, vectors, reference, record)


def enough(images: Sequence[GateImage]) -> None:
    """Refuses a number of images too small to judge by.

    Raises:
        ExportError: Fewer than four.
    """
    if len(images) < _FEWEST:
        raise ExportError(f"the parity gate needs at least {_FEWEST} images; it was given {len(images)}")


def prepared(spec: Preprocess, images: Sequence[GateImage]) -> Pixels:
    """The images as the service prepares them, uint8 [N, height, width, 3]."""
    limits = ImageLimits()
    return np.stack([prepare_encoded(image.data, spec, "exact", limits) for image in images])


def judge(
    pixels: Pixels,
    vectors: Vectors,
    reference: Reference,
    images: Sequence[GateImage],
    limits: Limits,
    source: str,
) -> ParityRecord:
    """The three parts, all reported together; the first is left out where only vectors are known.

    Args:
        pixels: As the service prepares them, uint8 [N, height, width, 3].
        vectors: Of the exported graph on those, float32 [N, dim].
        reference: The other side.
        images: Where both came from.
        limits: What is allowed.
        source: Of the backbone, for messages.

    Raises:
        ParityError: A part failed.
    """
    record = measure(pixels, vectors, reference, images, limits)
    if failures := _failures(record, limits):
        raise ParityError(
            f"{source}: parity failed in its {'; in its '.join(failures)}. "
            f"Worst: {_worst(pixels, vectors, reference, images)}. Nothing was published"
        )
    return record


def measure(
    pixels: Pixels, vectors: Vectors, reference: Reference, images: Sequence[GateImage], limits: Limits
) -> ParityRecord:
    """The figures, whatever they are; see ``judge``."""
    if vectors.shape != reference.vectors.shape:
        raise ParityError(
            f"the graph gives vectors {list(vectors.shape)}, the reference {list(reference.vectors.shape)}"
        )
    cosines = _cosines(vectors, reference.vectors)
    apart = separation(reference.vectors)
    lossless = jpeg = None
    if reference.pixels is not None:
        differences = _differences(pixels, reference.pixels)
        kinds = np.array([image.lossless for image in images])
        lossless, jpeg = int(differences[kinds].max(initial=0)), int(differences[~kinds].max(initial=0))
    return ParityRecord(
        status="verified",
        reference=reference.words,
        images=len(images),
        pixels_lossless_max=lossless,
        pixels_jpeg_max=jpeg,
        pixels_jpeg_bound=JPEG_BOUND,
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean()),
        cosine_required=limits.cosine,
        separation_median=apart,
        separation_share=float((1 - cosines).max() / apart) if apart > 0 else float("nan"),
        separation_allowed=limits.share,
    )


def passes(record: ParityRecord, limits: Limits) -> bool:
    """Whether the figures are within the limits."""
    return not _failures(record, limits)


def unverified() -> ParityRecord:
    """The record of a network that there is nothing to compare with."""
    return ParityRecord(
        status="unverified",
        reference="none was given",
        images=0,
        pixels_lossless_max=None,
        pixels_jpeg_max=None,
        pixels_jpeg_bound=JPEG_BOUND,
        cosine_min=None,
        cosine_mean=None,
        cosine_required=None,
        separation_median=None,
        separation_share=None,
        separation_allowed=None,
    )


def separation(vectors: Vectors) -> float:
    """Median of 1 - cosine over all pairs of different rows."""
    units = _units(vectors)
    pairs = np.triu_indices(len(units), k=1)
    return float(np.median(1 - (units @ units.T)[pairs]))


def check_batches(source: str, candidate: Candidate, pixels: Pixels, bound: float) -> BatchRecord:
    """Runs every batch size and compares each vector with the one of its image alone (contract 3).

    Args:
        source: Of the backbone, for messages.
        candidate: The exported graph.
        pixels: Different images, uint8 [N, height, width, 3]; repeated where a batch is larger.
        bound: The largest allowed relative L2 difference.

    Raises:
        ExportError: A size can't be run, or company moves a vector further than the bound.
    """
    alone = np.concatenate([candidate.run(pixels[i : i + 1]) for i in range(len(pixels))])
    worst = 0.0
    for size in BATCH_SIZES:
        rows = np.arange(size) % len(pixels)
        found, wanted = candidate.run(pixels[rows]), alone[rows]
        with np.errstate(invalid="ignore"):
            # A vector of zeros has no length to compare with; its NaN fails below.
            differences = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
        # Written so that NaN, which compares as false, fails.
        if not (differences <= bound).all():
            raise ExportError(
                f"{source}: a batch of {size} gives other vectors than its images alone (relative "
                f"difference {differences.max():.2e}, {bound:.0e} is allowed); nothing was published"
            )
        worst = max(worst, float(differences.max()))
    return BatchRecord(sizes=BATCH_SIZES, bound=bound, measured=worst)


def _failures(record: ParityRecord, limits: Limits) -> list[str]:
    """What failed, in words. Comparisons are written so that NaN fails."""
    parts = []
    for kind, largest, allowed in (
        ("lossless", record.pixels_lossless_max, 0),
        ("JPEG", record.pixels_jpeg_max, record.pixels_jpeg_bound),
    ):
        if largest is not None:
            words = f"pixels ({kind} images differ by up to {largest} of 255, {allowed} is allowed)"
            parts.append((largest <= allowed, words))
    cosine = record.cosine_min if limits.of == "smallest" else record.cosine_mean
    share = record.separation_share
    assert cosine is not None
    assert share is not None
    parts += [
        (cosine >= limits.cosine, f"cosine ({limits.of} {cosine:.6f}, {limits.cosine} is required)"),
        (
            share <= limits.share,
            f"separation (1 - cosine to the reference is up to {share:.2%} of the median "
            f"{record.separation_median:.3g} between different images, {limits.share:.1%} is allowed)",
        ),
    ]
    return [words for held, words in parts if not held]


def _worst(pixels: Pixels, vectors: Vectors, reference: Reference, images: Sequence[GateImage]) -> str:
    differences = None if reference.pixels is None else _differences(pixels, reference.pixels)
    if differences is None or differences.max() == 0:
        return images[int(np.argmin(_cosines(vectors, reference.vectors)))].name
    return images[int(np.argmax(differences))].name


def _differences(left: Pixels, right: Pixels) -> NDArray[np.int16]:
    """The largest difference of each image."""
    differences: NDArray[np.int16] = np.abs(left.astype(np.int16) - right).max(axis=(1, 2, 3))
    return differences


def _cosines(left: Vectors, right: Vectors) -> NDArray[np.float64]:
    cosines: NDArray[np.float64] = (_units(left) * _units(right)).sum(axis=1)
    return cosines


def _units(vectors: Vectors) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    units: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return units
