"""How busy the stages of a job are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STAGES = ("read", "decode", "device", "write")


class StageTimes:
    """Adds up the seconds that stages were busy. Threads may share it; it is an engine's ``Observer``.

    Args:
        clock: Monotonic seconds.
        threads: Of each stage that has several, by name.
    """

    def __init__(self, clock: Callable[[], float], threads: dict[str, int] | None = None) -> None:
        self._clock = clock
        self._threads = threads or {}
        self._busy = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()

    @contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Counts the time inside the block."""
        started = self._clock()
        try:
            yield
        finally:
            self._add(stage, self._clock() - started)

    def shares(self, seconds: float) -> dict[str, float]:
        """Share of the time, 0 to 1, in which each stage was busy; a stage of several threads by their mean."""
        if seconds <= 0:
            return dict.fromkeys(STAGES, 0.0)
        with self._lock:
            busy = dict(self._busy)
        return {
            stage: min(1.0, spent / seconds / self._threads.get(stage, 1)) for stage, spent in busy.items()
        }

    def decoded(self, seconds: float) -> None:
        """See ``Observer``."""
        self._add("decode", seconds)

    def batch(self, model: str, size: int, seconds: float) -> None:
        """See ``Observer``."""
        del model, size
        self._add("device", seconds)

    def dropped(self, reason: str) -> None:
        """See ``Observer``."""

    def image_failed(self, reason: str) -> None:
        """See ``Observer``."""

    def cached(self, result: str) -> None:
        """See ``Observer``; a job keeps no cache."""
        del result

    def _add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._busy[stage] += seconds
