"""What was seen of every call, and the figures of a stretch of it. Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OK = "OK"


class Tape:
    """A line for each call that ended: 32 bytes each, so that long runs fit."""

    def __init__(self) -> None:
        self._due = array("d")
        self._begun = array("d")
        self._ended = array("d")
        self._images = array("I")
        self._status = array("I")
        self._statuses: dict[str, int] = {}
        self._overflow = array("d")

    def add(self, due: float, begun: float, ended: float, images: int, status: str) -> None:
        """A call that ended.

        Args:
            due: When it should have begun, in seconds of the clock.
            begun: When it did.
            ended: When its answer was there.
            images: How many of its images were served.
            status: ``OK``, or why it, or one of its images, was not served.
        """
        self._due.append(due)
        self._begun.append(begun)
        self._ended.append(ended)
        self._images.append(images)
        self._status.append(self._statuses.setdefault(status, len(self._statuses)))

    def overflow(self, due: float) -> None:
        """A call that was not sent, because too many were unanswered when it was due."""
        self._overflow.append(due)

    def figures(self, window: Window) -> Figures:
        """What the window holds.

        Calls whose answers came within it make the throughput. Those that were due within it make latencies,
        errors and overflow, whenever they ended: a slow call does not drop out because the window closed.
        """
        due, begun, ended = (_column(column) for column in (self._due, self._begun, self._ended))
        status = np.frombuffer(self._status, np.uint32) if self._status else np.zeros(0, np.uint32)
        images = np.frombuffer(self._images, np.uint32) if self._images else np.zeros(0, np.uint32)
        names = list(self._statuses)
        good = status == self._statuses.get(OK, len(names))
        asked = window.holds(due)
        answered = window.holds(ended)
        calls = int((answered & good).sum())
        latencies = np.sort((ended - due)[asked & good]) * 1e3
        return Figures(
            seconds=window.seconds,
            calls=calls,
            images=int(images[answered].sum()),
            p50_ms=percentile(latencies, 50),
            p95_ms=percentile(latencies, 95),
            p99_ms=percentile(latencies, 99),
            max_ms=percentile(latencies, 100),
            errors=dict(Counter(names[number] for number in status[asked & ~good])),
            overflow=int(window.holds(_column(self._overflow)).sum()),
            late_p99_ms=percentile(np.sort((begun - due)[asked]) * 1e3, 99),
            generator_s=window.cpu_s,
        )


@dataclass(frozen=True)
class Window:
    """The stretch of time that counts.

    Attributes:
        start: First instant, in seconds of the clock.
        end: Last instant.
        cpu_s: What this process used of processors meanwhile.
    """

    start: float
    end: float
    cpu_s: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start

    def holds(self, instants: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which instants lie within it: from the start, before the end."""
        within: NDArray[np.bool_] = (instants >= self.start) & (instants < self.end)
        return within


@dataclass(frozen=True)
class Figures:
    """What was measured under one load.

    Attributes:
        seconds: How long.
        calls: Calls that were answered whole.
        images: Images that were served, also those of calls in which another image failed.
        p50_ms: Median latency of answered calls, from when each should have begun; None where there is none.
        p95_ms: 95th percentile of it.
        p99_ms: 99th percentile of it.
        max_ms: The longest.
        errors: Calls that failed, or in which an image failed, by status.
        overflow: Calls that were due and not sent, because too many were unanswered.
        late_p99_ms: How late calls began, 99th percentile: a large one says that the generator is the limit.
        generator_s: Processor seconds of the load generator.
    """

    seconds: float
    calls: int
    images: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    errors: dict[str, int]
    overflow: int
    late_p99_ms: float | None
    generator_s: float

    @property
    def images_per_second(self) -> float:
        """Served images a second."""
        return self.images / self.seconds

    @property
    def calls_per_second(self) -> float:
        """Answered calls a second."""
        return self.calls / self.seconds

    @property
    def generator_ms_per_call(self) -> float | None:
        """Processor time of the load generator for one answered call, in milliseconds."""
        return 1e3 * self.generator_s / self.calls if self.calls else None


def percentile(ascending: NDArray[np.float64], percent: int) -> float | None:
    """The smallest value that at least ``percent`` of a hundred values do not exceed; None of no values."""
    rank = -(-percent * len(ascending) // 100)
    return float(ascending[max(rank, 1) - 1]) if len(ascending) else None


def _column(values: array[float]) -> NDArray[np.float64]:
    return np.frombuffer(values, np.float64) if values else np.zeros(0)
