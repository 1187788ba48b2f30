"""The raw ceiling: the same decode and the same model in a loop on this machine, without a server."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trunkline_service.bench.dialect import Served
from trunkline_service.errors import ImageError, InvalidArgument
from trunkline_service.images.inputs import ImageInput, prepare
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.settings import DecodeMode, ImageLimits

# Of the ways, so many are measured for the whole time; the rest only briefly.
_FINALISTS = 2
_BRIEF_S = 1.0
_MOST_IMAGES = 64


@dataclass(frozen=True)
class Tried:
    """One way of running, and what it gave.

    Attributes:
        plan: Threads in a run, runs at once, images in a run.
        images_per_second: Decoded and embedded images a second.
    """

    plan: ExecutionPlan
    images_per_second: float


@dataclass(frozen=True)
class Ceiling:
    """What this machine can do without a server.

    Attributes:
        best: The fastest way.
        tried: All of them, as they were measured last.
    """

    best: Tried
    tried: tuple[Tried, ...]


Measure = Callable[[ExecutionPlan, float], float]


def ways(device: Device, cores: int, max_batch: int) -> list[ExecutionPlan]:
    """What is tried: every core on a run of its own or all on one, by batch size; on a GPU batch sizes alone."""
    batches = sorted({min(batch, max_batch) for batch in (1, 4, 16)})
    if device.kind != "cpu":
        return [ExecutionPlan(1, 1, batch) for batch in sorted({*batches, max_batch})]
    cuts = dict.fromkeys([(1, cores), (cores, 1)])
    return [ExecutionPlan(threads, runs, batch) for threads, runs in cuts for batch in batches]


def ceiling(plans: Sequence[ExecutionPlan], measure: Measure, seconds: float) -> Ceiling:
    """The best of several ways: all of them briefly, then the best of those for the whole time.

    Args:
        plans: The ways, at least one.
        measure: Images a second of a way, measured for some seconds.
        seconds: The whole time.
    """
    found = {plan: measure(plan, min(_BRIEF_S, seconds)) for plan in plans}
    for plan in sorted(found, key=found.__getitem__, reverse=True)[:_FINALISTS]:
        found[plan] = measure(plan, seconds)
    tried = tuple(Tried(plan, rate) for plan, rate in found.items())
    return Ceiling(max(tried, key=lambda entry: entry.images_per_second), tried)


def folder_of(models: Path, served: Served) -> ModelFolder:
    """The served model in a folder of this machine.

    Raises:
        ModelNotFound, ModelFileError: It is not there, or can't be read.
        InvalidArgument: What is there is another model of the same name.
    """
    folder = ModelRepository(models).resolve(served.reference)
    here = folder.card.artifact.artifact_id
    if served.artifact_id and here != served.artifact_id:
        raise InvalidArgument(
            f"the server's {served.reference} is artifact {served.artifact_id}, the one in {str(models)!r} is {here}: "
            "served / raw would compare two models; give --models the folder that the server serves"
        )
    return folder


class RawLoop:
    """Decodes and embeds in a loop, in threads of this process.

    Args:
        folder: The model.
        images: Encoded files, or pixels. Up to 64 of them are taken in turn, those that can't be decoded left out.
        device: Where the model runs.
        mode: How JPEG is decoded.
        limits: What an image may cost.
        threads: Threads that decode.
        clock: Seconds; only differences count.

    Raises:
        InvalidArgument: None of the images can be decoded.
    """

    def __init__(
        self,
        folder: ModelFolder,
        images: Sequence[ImageInput],
        device: Device,
        mode: DecodeMode,
        limits: ImageLimits,
        threads: int,
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._prepare = functools.partial(prepare, spec=folder.card.preprocess, mode=mode, limits=limits)
        some = images[:: -(-len(images) // _MOST_IMAGES)]
        self._images = [image for image in some if self._can_be_decoded(image)]
        if not self._images:
            raise InvalidArgument("none of the images can be decoded here; give others with --images")
        self._device = device
        self._threads = threads
        self._clock = clock

    def __call__(self, plan: ExecutionPlan, seconds: float) -> float:
        """Images a second. Every thread decodes a batch and runs it; at most ``plan.runs`` run at once.

        Raises:
            ImageError: An image can't be decoded.
            ModelFileError, SettingsError: The model can't be run.
        """
        session = ModelSession(self._folder, self._device, plan)
        session.warm([plan.batch])
        turns = threading.Semaphore(plan.runs)
        begin = threading.Barrier(self._threads)
        stop = threading.Event()

        def work(number: int) -> float:
            begin.wait()
            start = self._clock()
            for turn in itertools.count(1):
                self._once(session, number + turn, turns)
                passed = self._clock() - start
                if passed >= seconds or stop.is_set():
                    return turn * plan.batch / passed
            raise AssertionError("counting never ends")

        # Each thread's own rate: they end apart, and the tail of one is no time of the others.
        with ThreadPoolExecutor(self._threads, thread_name_prefix="raw") as pool:
            try:
                return sum(pool.map(work, range(self._threads)))
            finally:
                # Ctrl-C, or an error of one: the others need not go on for their whole time.
                stop.set()

    def _once(self, session: ModelSession, first: int, turns: threading.Semaphore) -> None:
        size = session.plan.batch
        taken = (
            self._images[number % len(self._images)] for number in range(first * size, (first + 1) * size)
        )
        batch = np.stack([self._prepare(image) for image in taken])
        with turns:
            session.run(batch)

    def _can_be_decoded(self, image: ImageInput) -> bool:
        try:
            self._prepare(image)
        except ImageError:
            return False
        return True
