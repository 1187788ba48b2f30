"""What a conversion did, and how well its vectors agree with the reference's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """A judge's verdict on a converted file.

    Attributes:
        passed: Whether it is within the judge's limits.
        cosine_mean: Mean cosine between its vectors and the reference's.
        cosine_min: The smallest of those cosines.
        share: 1 - cosine, as a share of the median 1 - cosine between different images.
    """

    passed: bool
    cosine_mean: float
    cosine_min: float
    share: float

    def __str__(self) -> str:
        return (
            f"cosine mean {self.cosine_mean:.4f}, smallest {self.cosine_min:.4f}; 1 - cosine is "
            f"{self.share:.1%} of that between different images"
        )


@dataclass(frozen=True)
class Kept:
    """An operator that could have been converted and was not.

    Attributes:
        name: Of the node.
        op_type: ONNX's name of the operator.
        why: In words.
    """

    name: str
    op_type: str
    why: str


@dataclass(frozen=True)
class Report:
    """How a file was made.

    Attributes:
        precision: ``fp16`` or ``int8``.
        method: In words.
        images: Calibration images.
        converted: Operators in the lower precision, counted by type.
        kept: Operators with a choice that stayed float32.
        share: Multiply-adds in the lower precision, as a share of all.
        agreement: The judge's verdict; None where no judge was asked.
    """

    precision: str
    method: str
    images: int
    converted: Mapping[str, int]
    kept: tuple[Kept, ...]
    share: float
    agreement: Agreement | None = None

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {op_type}" for op_type, count in sorted(self.converted.items()))
        words = f"{self.method}; {self.images} calibration images; {self.precision}: {counts or 'nothing'}"
        words += f" ({self.share:.0%} of the multiply-adds)"
        reasons: dict[str, list[str]] = {}
        for kept in self.kept:
            reasons.setdefault(kept.why, []).append(f"{kept.name} ({kept.op_type})")
        for why, names in reasons.items():
            words += f"; kept float32 because {why}: {', '.join(names)}"
        return words


def compare(vectors: Vectors, reference: Vectors, *, cosine: float, share: float) -> Agreement:
    """Judges by means: of the cosine, and of 1 - cosine beside the median between different images.

    Args:
        vectors: Of the converted file, [N, dim].
        reference: Of the same images, [N, dim].
        cosine: The least allowed mean.
        share: The largest allowed share.
    """
    ours, theirs = units(vectors), units(reference)
    cosines = (ours * theirs).sum(axis=1)
    apart = float(np.median(1 - (theirs @ theirs.T)[np.triu_indices(len(theirs), k=1)]))
    mean = float(cosines.mean())
    part = (1 - mean) / apart if apart > 0 else float("nan")
    # Written so that NaN, which compares as false, fails.
    return Agreement(bool(mean >= cosine and part <= share), mean, float(cosines.min()), part)


def units(vectors: Vectors) -> NDArray[np.float64]:
    """Each row divided by its length."""
    wide = vectors.astype(np.float64)
    # A vector of zeros has no direction; its NaN fails every comparison.
    with np.errstate(invalid="ignore"):
        divided: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return divided
