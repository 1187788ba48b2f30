"""Sessions of one model that are opened to be measured, one for each number of threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import ModelFileError
from trunkline_service.models.memory import available_bytes
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import ModelFolder
from trunkline_service.models.session import Device, ModelSession

Clock = Callable[[], float]

# What a session may take beside the file's bytes: the prepacked copy of the weights, and activations.
_FILES_A_SESSION = 3
_log = logging.getLogger(__name__)


class Trial:
    """Sessions to measure with; they are let go of with this object, their memory with them.

    Args:
        folder: The model.
        device: The CPU.
        available: Says how many bytes may still be taken; None where nobody knows.

    Attributes:
        problem: Why the last plan could not be measured.
    """

    def __init__(
        self, folder: ModelFolder, device: Device, available: Callable[[], int | None] = available_bytes
    ) -> None:
        self.folder = folder
        self._device = device
        self._available = available
        self._sessions: dict[int, ModelSession] = {}
        self._warm: set[ExecutionPlan] = set()
        self.problem: ModelFileError | None = None

    def session(self, plan: ExecutionPlan) -> ModelSession | None:
        """A warm session for a plan, on which any number of threads may run; None where it can't be had.

        The first one is opened whatever memory there is: a model that is too large can't be served either.
        """
        try:
            session = self._sessions.get(plan.threads) or self._open(plan)
            if session is not None and plan not in self._warm:
                session.warm_one(plan.batch)
                self._warm.add(plan)
        except ModelFileError as exc:
            _log.info("plan %s is left out: %s", plan, exc)
            self.problem = exc
            return None
        return session

    def _open(self, plan: ExecutionPlan) -> ModelSession | None:
        available = self._available()
        needed = _FILES_A_SESSION * self.folder.card.artifact.bytes
        if self._sessions and available is not None and available < needed:
            _log.info("plan %s is left out: there is no memory to try it", plan)
            return None
        session = ModelSession(self.folder, self._device, plan)
        self._sessions[plan.threads] = session
        return session


class InferenceRate:
    """Measures images per second of inference alone, on all the cores that a plan uses.

    Runs of one thread each are charged with the CPU time of that thread: what other programs take meanwhile
    is no fault of the plan. Threads of one run wait for each other, so that there only the clock can tell;
    on a busy machine this speaks for one thread a run, which a busy machine slows down least.

    Args:
        trial: Gives the sessions.
        clock: Monotonic seconds.
        cpu_clock: Seconds of CPU time of the calling thread.
        span_s: How long one measurement takes; a model whose run is longer is run once.
        longest_s: Plans whose runs of several images would take longer are not measured: whoever comes
            meanwhile would wait for such a run to end.
    """

    def __init__(
        self,
        trial: Trial,
        clock: Clock,
        cpu_clock: Clock = time.thread_time,
        span_s: float = 0.03,
        longest_s: float = 0.2,
    ) -> None:
        self._trial = trial
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._span_s = span_s
        self._longest_s = longest_s
        self._fastest = 0.0

    def __call__(self, plan: ExecutionPlan) -> float | None:
        """See ``choosing.Measure``."""
        images = plan.runs * plan.batch
        if plan.batch > 1 and self._fastest and images / self._fastest > self._longest_s:
            return None
        session = self._trial.session(plan)
        if session is None:
            return None
        rate = self._measure(session, plan)
        self._fastest = max(self._fastest, rate)
        return rate

    def _measure(self, session: ModelSession, plan: ExecutionPlan) -> float:
        height, width = session.input_size
        # Values don't matter, but zeros may be multiplied faster than photographs.
        batch = np.random.default_rng(0).integers(0, 256, (plan.batch, height, width, 3), np.uint8)
        with ThreadPoolExecutor(plan.runs, thread_name_prefix="calibrate") as pool:
            started = self._clock()
            loop = partial(self._loop, session, batch, started + self._span_s)
            runs = [run.result() for run in [pool.submit(loop) for _ in range(plan.runs)]]
            elapsed = self._clock() - started
        if plan.threads == 1:
            return sum(images / max(cpu_s, 1e-9) for images, cpu_s in runs)
        return sum(images for images, _ in runs) / max(elapsed, 1e-9)

    def _loop(self, session: ModelSession, batch: NDArray[np.uint8], until: float) -> tuple[int, float]:
        """Runs until then, at least once; gives the images and this thread's seconds of CPU time."""
        images, started = 0, self._cpu_clock()
        while images == 0 or self._clock() < until:
            images += len(session.run(batch))
        return images, self._cpu_clock() - started
