"""How many images failed of the last ones; pure."""

from __future__ import annotations

from collections import deque

_FROM = 200
_LAST = 1000


class Lately:
    """The error rate of the last thousand images or so.

    Of all images since the beginning it would mean little: after ten million good ones, two million
    could fail before it moved.
    """

    def __init__(self) -> None:
        self._chunks: deque[tuple[int, int]] = deque()
        self.images = 0
        self.failed = 0

    def add(self, images: int, failed: int) -> None:
        """Takes note of some more."""
        self._chunks.append((images, failed))
        self.images += images
        self.failed += failed
        while self.images - self._chunks[0][0] >= _LAST:
            oldest = self._chunks.popleft()
            self.images -= oldest[0]
            self.failed -= oldest[1]

    @property
    def rate(self) -> float:
        """0 to 1; 0 as long as there are too few to tell."""
        return self.failed / self.images if self.images >= _FROM else 0.0
