"""Another precision of a verified fp32 graph, admitted by a run of the gate of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trunkline_export.backbone import Backbone
from trunkline_export.gate import parity
from trunkline_export.gate.candidate import Candidate
from trunkline_export.gate.images import GateImage
from trunkline_export.gate.reference import Pixels, Reference, by_graph, by_pytorch, embedded
from trunkline_export.joining.network import OnnxNetwork
from trunkline_export.precision import calibration, fp16, int8
from trunkline_export.precision.files import Shared, shared
from trunkline_export.precision.report import Agreement, Report
from trunkline_service.errors import InvalidArgument
from trunkline_service.models.card import ParityRecord

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class PrecisionChoice:
    """What is published.

    Attributes:
        name: One of ``PRECISIONS``.
        calibrate: A folder of images like those that will be served, for the ranges of int8 and fp16; without
            it images made here.

    Raises:
        InvalidArgument: Not one of those.
    """

    name: str = "fp32"
    calibrate: Path | None = None

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise InvalidArgument(f"precision is {self.name!r}; it must be one of {', '.join(PRECISIONS)}")
        if self.calibrate is not None and self.name == "fp32":
            raise InvalidArgument("--calibrate is for --precision int8 or fp16; fp32 needs no ranges")


@dataclass(frozen=True)
class Judged:
    """What every precision of one backbone is judged by; row i is image i.

    Attributes:
        images: The gate's.
        pixels: As the service prepares them, uint8 [N, height, width, 3].
        reference: Their vectors.
    """

    images: tuple[GateImage, ...]
    pixels: Pixels
    reference: Reference


@dataclass(frozen=True)
class Converted:
    """A file of another precision.

    Attributes:
        path: Of the file.
        words: How it was made.
        parity: Its run of the gate.
    """

    path: Path
    words: str
    parity: ParityRecord


def converted(
    source: Path,
    target: Path,
    choice: PrecisionChoice,
    backbone: Backbone | OnnxNetwork,
    judged: Judged,
    progress: Callable[[str], None],
) -> Converted:
    """Converts a file and judges it.

    Args:
        source: The fp32 graph.
        target: The file to write.
        choice: fp16 or int8.
        backbone: Whose graph it is.
        judged: What the fp32 graph was judged by. Images of a calibration folder that are not calibrated by
            are judged too.
        progress: Is told, in a few words, what begins.

    Raises:
        ParityError: It does not agree with the reference.
        InvalidArgument: The calibration folder holds too few images.
        ExportError: It can't be converted.
    """
    files = shared(choice.calibrate) if choice.calibrate is not None else None
    judged = _with_files(judged, files, backbone, source)
    limits = parity.LIMITS[choice.name]

    def judge(path: Path) -> Agreement:
        vectors = embedded(Candidate(path), judged.pixels)
        record = parity.measure(judged.pixels, vectors, judged.reference, judged.images, limits)
        mean, smallest, share = record.cosine_mean, record.cosine_min, record.separation_share
        assert mean is not None
        assert smallest is not None
        assert share is not None
        return Agreement(parity.passes(record, limits), mean, smallest, share)

    images = _calibration(files, backbone)
    report: Report
    if choice.name == "int8":
        report = int8.quantize(source, target, images, judge, progress=progress)
    else:
        progress("looking for values that fp16 can't hold")
        report = fp16.convert(source, target, images)
    progress(f"comparing the {choice.name} graph on {len(judged.images)} images")
    vectors = embedded(Candidate(target), judged.pixels)
    record = parity.judge(
        judged.pixels, vectors, judged.reference, judged.images, limits, f"{backbone.source} in {choice.name}"
    )
    kind = "images made for it" if files is None else "images of the user's"
    return Converted(target, f"{report} ({kind})", record)


def _calibration(files: Shared | None, backbone: Backbone | OnnxNetwork) -> Iterator[Pixels]:
    data = calibration.made() if files is None else map(_read, files.calibrating)
    return calibration.prepared(data, backbone.preprocess)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise InvalidArgument(f"--calibrate: {path.name} can't be read any more: {exc.strerror}") from exc


def _with_files(
    judged: Judged, files: Shared | None, backbone: Backbone | OnnxNetwork, source: Path
) -> Judged:
    """The gate's images and those of the user's that are left to judge by."""
    if files is None or not files.judging:
        return judged
    images: Sequence[GateImage] = files.judging
    pixels = parity.prepared(backbone.preprocess, images)
    theirs = (
        by_pytorch(backbone, images)
        if isinstance(backbone, Backbone)
        else by_graph(Candidate(source), pixels)
    )
    ours = judged.reference
    both = None
    if ours.pixels is not None and theirs.pixels is not None:
        both = np.concatenate([ours.pixels, theirs.pixels])
    return Judged(
        (*judged.images, *images),
        np.concatenate([judged.pixels, pixels]),
        replace(ours, vectors=np.concatenate([ours.vectors, theirs.vectors]), pixels=both),
    )
