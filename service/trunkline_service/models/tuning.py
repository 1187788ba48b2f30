"""Plans measured as a server runs them: images are decoded on the same cores."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from queue import Empty, Queue

import numpy as np
from numpy.typing import NDArray

from trunkline_service.images.prepare import prepare_encoded
from trunkline_service.models.card import ModelCard
from trunkline_service.models.choosing import candidates, choose
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.session import ModelSession
from trunkline_service.models.trial import Clock, Trial
from trunkline_service.settings import Settings

_ROUNDS = 3
_ALONE = 5
# None ends a thread that runs the model.
_Feed = Queue[NDArray[np.uint8] | None]


@dataclass(frozen=True)
class Tried:
    """One plan and what it gave.

    Attributes:
        plan: The plan.
        images_per_second: Decoded and embedded, with every core at work: the best of its rounds.
        alone_ms: Median milliseconds to decode and embed one image while nothing else runs.
    """

    plan: ExecutionPlan
    images_per_second: float
    alone_ms: float


@dataclass(frozen=True)
class Tuned:
    """The plans of one model.

    Attributes:
        card: The model's.
        plan: The chosen one.
        tried: Every plan that could be measured, in the order of preference; empty where nothing was measured.
    """

    card: ModelCard
    plan: ExecutionPlan
    tried: tuple[Tried, ...]


def tune(trial: Trial, settings: Settings, images: Sequence[bytes], seconds: float, clock: Clock) -> Tuned:
    """Measures every plan of a model on the CPU and chooses one.

    Args:
        trial: Gives the sessions.
        settings: Threads, limits and the decode mode.
        images: Encoded files, at least one, such as callers will send.
        seconds: How long a plan is measured that stays among the best to the end.
        clock: Monotonic seconds.

    Raises:
        ImageError: An image can't be used.
        ModelFileError: The model can't be run with any plan.
    """
    service = _ServiceRate(trial, settings, images, seconds / _ROUNDS, clock)
    plans = candidates(settings.worker_threads, settings.queue.max_batch)
    choice = choose(plans, service)
    if trial.problem is not None and not choice.rates:
        raise trial.problem
    tried = tuple(
        Tried(plan, choice.rates[plan], service.alone_ms(plan)) for plan in plans if plan in choice.rates
    )
    return Tuned(trial.folder.card, choice.plan, tried)


class _ServiceRate:
    """Images per second of a decode pool that feeds the runs of a plan."""

    def __init__(
        self, trial: Trial, settings: Settings, images: Sequence[bytes], span_s: float, clock: Clock
    ) -> None:
        self._trial = trial
        self._settings = settings
        self._images = images
        self._span_s = span_s
        self._clock = clock
        self._spec = trial.folder.card.preprocess

    def __call__(self, plan: ExecutionPlan) -> float | None:
        """See ``choosing.Measure``."""
        session = self._trial.session(plan)
        if session is None:
            return None
        decoders = self._settings.worker_threads
        feed: _Feed = Queue(maxsize=2 * plan.runs * plan.batch + decoders)
        with ThreadPoolExecutor(decoders + plan.runs, thread_name_prefix="tune") as pool:
            started = self._clock()
            runs = [pool.submit(partial(_run, session, feed, plan.batch)) for _ in range(plan.runs)]
            decode = partial(self._decode, feed, started + self._span_s)
            try:
                for decoder in [pool.submit(decode) for _ in range(decoders)]:
                    decoder.result()
            finally:
                for _ in runs:
                    feed.put(None)
            images = sum(run.result() for run in runs)
            return images / max(self._clock() - started, 1e-9)

    def alone_ms(self, plan: ExecutionPlan) -> float:
        """Milliseconds of one image, decoded and embedded in this thread; the median of a few."""
        session = self._trial.session(plan)
        assert session is not None
        times: list[float] = []
        ends = self._clock() + self._span_s
        for number in count():
            started = self._clock()
            if number >= _ALONE and started >= ends:
                return 1000 * statistics.median(times)
            session.run(self._prepared(number)[None])
            times.append(self._clock() - started)
        raise AssertionError

    def _decode(self, feed: _Feed, until: float) -> None:
        for number in count():
            feed.put(self._prepared(number))
            if self._clock() >= until:
                return

    def _prepared(self, number: int) -> NDArray[np.uint8]:
        data = self._images[number % len(self._images)]
        return prepare_encoded(data, self._spec, self._settings.decode, self._settings.image)


def _run(session: ModelSession, feed: _Feed, most: int) -> int:
    """Runs what has gathered, as the batcher does, until the end; gives the number of images."""
    images = 0
    ended = False
    try:
        while not ended:
            gathered = [feed.get()]
            while gathered[-1] is not None and len(gathered) < most:
                try:
                    gathered.append(feed.get_nowait())
                except Empty:
                    break
            ended = gathered[-1] is None
            if batch := [pixels for pixels in gathered if pixels is not None]:
                images += len(session.run(np.stack(batch)))
    finally:
        # Whoever feeds must not wait for a thread that has failed.
        while not ended:
            ended = feed.get() is None
    return images
