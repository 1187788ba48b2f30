"""What a job would cost: a sample is measured, nothing is stored."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import ImageError, NotEnoughData
from trunkline_service.images.inputs import EncodedImage, prepare
from trunkline_service.jobs.plan import Listed, Task
from trunkline_service.jobs.sources import SourceItem
from trunkline_service.models.session import ModelSession
from trunkline_service.settings import DecodeMode, Settings

SAMPLE = 64
# Lance's own share of a row beside its texts and its vector, measured on 100,000 rows.
_ROW_BYTES = 40
_HASH_BYTES = 64
_MODES: tuple[DecodeMode, ...] = ("exact", "fast")


@dataclass(frozen=True)
class ModeEstimate:
    """The job in one decode mode.

    Attributes:
        decode_ms: Of one image, on one thread.
        images_per_second: Of all stages together.
        seconds: For all images.
        bottleneck: The stage that takes most of it.
    """

    decode_ms: float
    images_per_second: float
    seconds: float
    bottleneck: str


@dataclass(frozen=True)
class Estimate:
    """What a job would cost here.

    Attributes:
        images: To be done.
        unchanged: Done already.
        failed_before: Error rows that would be left as they are.
        sampled: Images that were measured.
        failures: Of those, images that can't be used, by reason.
        read_ms: Reading one image, on one thread.
        infer_ms: The model's time for one image, in batches.
        modes: By decode mode.
        collection_decode: The mode that the job would use.
        collection_bytes: What the new rows would take in the store.
    """

    images: int
    unchanged: int
    failed_before: int
    sampled: int
    failures: Mapping[str, int]
    read_ms: float
    infer_ms: float
    modes: Mapping[str, ModeEstimate]
    collection_decode: str
    collection_bytes: int


def sample(tasks: Iterable[Task], seed: int = 0) -> list[SourceItem]:
    """`SAMPLE` items of all tasks, each with the same chance, in one pass.

    Source: J. S. Vitter, "Random Sampling with a Reservoir", ACM TOMS 11(1), 1985, algorithm R.
    """
    chance = random.Random(seed)  # noqa: S311  no secret depends on it
    kept: list[SourceItem] = []
    for number, task in enumerate(tasks):
        if number < SAMPLE:
            kept.append(task.item)
        elif (place := chance.randrange(number + 1)) < SAMPLE:
            kept[place] = task.item
    return kept


def estimate(
    items: Sequence[SourceItem],
    listed: Listed,
    session: ModelSession,
    spec: CollectionSpec,
    settings: Settings,
    *,
    readers: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Estimate:
    """Measures every stage on a sample, one after the other.

    On a CPU the stages share the cores, so their times add up; on a GPU they overlap, and the slowest
    one decides.

    Args:
        items: The sample.
        listed: What the plan found.
        session: The model.
        spec: Of the collection.
        settings: Threads and limits.
        readers: Threads that a job reads with.
        clock: Monotonic seconds.

    Raises:
        NotEnoughData: No image of the sample can be used.
    """
    data, read_s, failures = _read(items, settings.image.max_bytes, clock)
    decode_s, pixels = _decode(data, session, settings, clock, failures)
    if not pixels:
        raise NotEnoughData(
            f"none of {len(items)} sampled images can be used ({failures}); look at the source"
        )
    infer_s = _infer(pixels, session, clock)
    overlap = session.device.kind != "cpu"
    modes: dict[str, ModeEstimate] = {
        mode: _mode(
            listed.tasks,
            {
                "read": read_s / readers,
                "decode": decode_s[mode] / settings.worker_threads,
                "device": infer_s,
            },
            decode_s[mode],
            overlap,
        )
        for mode in _MODES
    }
    return Estimate(
        images=listed.tasks,
        unchanged=listed.unchanged,
        failed_before=listed.failed_before,
        sampled=len(items),
        failures=failures,
        read_ms=1000 * read_s,
        infer_ms=1000 * infer_s,
        modes=modes,
        collection_decode=spec.decode,
        collection_bytes=listed.tasks * _row_bytes(items, spec),
    )


def _mode(images: int, costs: Mapping[str, float], decode_s: float, overlap: bool) -> ModeEstimate:
    each = max(costs.values()) if overlap else max(costs["read"], costs["decode"] + costs["device"])
    return ModeEstimate(
        decode_ms=1000 * decode_s,
        images_per_second=1 / each if each else float("inf"),
        seconds=images * each,
        bottleneck=max(costs, key=lambda stage: costs[stage]),
    )


def _read(
    items: Sequence[SourceItem], limit: int, clock: Callable[[], float]
) -> tuple[list[bytes], float, dict[str, int]]:
    data: list[bytes] = []
    failures: dict[str, int] = {}
    started = clock()
    for item in items:
        try:
            data.append(item.read(limit))
        except ImageError as exc:
            failures[exc.reason] = failures.get(exc.reason, 0) + 1
    return data, (clock() - started) / max(1, len(items)), failures


def _decode(
    data: Sequence[bytes],
    session: ModelSession,
    settings: Settings,
    clock: Callable[[], float],
    failures: dict[str, int],
) -> tuple[dict[str, float], list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]]:
    """Seconds of one image by mode, and the pixels of those that can be used."""
    preprocess = session.card.preprocess
    seconds: dict[str, float] = {}
    pixels: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = []
    for mode in _MODES:
        last = mode == _MODES[-1]
        started = clock()
        for image in data:
            try:
                decoded = prepare(EncodedImage(image), preprocess, mode, settings.image)
            except ImageError as exc:
                if last:
                    failures[exc.reason] = failures.get(exc.reason, 0) + 1
                continue
            if last:
                pixels.append(decoded)
        seconds[mode] = (clock() - started) / max(1, len(data))
    return seconds, pixels


def _infer(
    pixels: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]],
    session: ModelSession,
    clock: Callable[[], float],
) -> float:
    """Seconds of the device for an image, with batches and runs at once as the session's plan has them."""
    most = session.plan.batch
    batches = [np.stack(pixels[start : start + most]) for start in range(0, len(pixels), most)]
    session.run(batches[0])
    with ThreadPoolExecutor(session.plan.runs) as running:
        started = clock()
        list(running.map(session.run, batches))
        return (clock() - started) / len(pixels)


def _row_bytes(items: Sequence[SourceItem], spec: CollectionSpec) -> int:
    texts = sum(len(item.id.encode()) + len(item.source.encode()) for item in items) / max(1, len(items))
    floats = 2 if spec.dtype == "float16" else 4
    return round(spec.dim * floats + texts + _HASH_BYTES + _ROW_BYTES)
