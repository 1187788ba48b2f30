"""Vectors by content, so that the same bytes are embedded once in a job."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import ImageError


class Outcome(NamedTuple):
    """What embedding some bytes gave: a vector, or why there is none."""

    vector: NDArray[np.float32] | None
    error: ImageError | None


class Contents:
    """The contents that are being embedded, and those that were lately. Threads may share it.

    Who claims a content first embeds it; the others wait. Nobody waits before it has settled its own
    claims, so no two can wait for each other.

    Args:
        most_bytes: Of the vectors that are remembered; the oldest are forgotten.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, Future[Outcome]] = OrderedDict()

    def claim(self, content_hash: str) -> tuple[Future[Outcome], bool]:
        """The outcome of a content, and whether the caller must produce it."""
        with self._lock:
            known = self._recent.get(content_hash)
            if known is not None:
                self._recent.move_to_end(content_hash)
                return known, False
            claimed: Future[Outcome] = Future()
            self._recent[content_hash] = claimed
            return claimed, True

    def settle(self, content_hash: str, outcome: Outcome) -> None:
        """Gives a claimed content its outcome."""
        with self._lock:
            claimed = self._recent[content_hash]
            claimed.set_result(outcome)
            self._bytes += _size(outcome)
            # Those under way stand near the end; one that does not is stepped over once, to the end.
            steps = len(self._recent)
            while self._bytes > self._most_bytes and steps:
                steps -= 1
                oldest = next(iter(self._recent))
                if oldest == content_hash or not self._recent[oldest].done():
                    self._recent.move_to_end(oldest)
                else:
                    self._bytes -= _size(self._recent.pop(oldest).result())

    def give_up(self, content_hash: str, error: BaseException) -> None:
        """The claimed content can't be embedded now; those who wait for it raise the same."""
        with self._lock:
            claimed = self._recent.get(content_hash)
            if claimed is not None and not claimed.done():
                del self._recent[content_hash]
                claimed.set_exception(error)


def _size(outcome: Outcome) -> int:
    # What a dictionary's entry takes besides.
    return 400 + (0 if outcome.vector is None else outcome.vector.nbytes)
