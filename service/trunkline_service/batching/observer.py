"""What the stages report; the server turns it into metrics."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Receives measurements. Called from many threads; must not block or raise."""

    def decoded(self, seconds: float) -> None:
        """An image was decoded and brought to size."""

    def batch(self, model: str, size: int, seconds: float) -> None:
        """A batch ran."""

    def dropped(self, reason: str) -> None:
        """A slot was dropped before work was spent on it: ``cancelled``, ``deadline_expired``."""

    def image_failed(self, reason: str) -> None:
        """An image could not be used."""

    def cached(self, result: str) -> None:
        """An image was looked up: ``hit``, ``joined`` an equal one at work, or ``miss``."""


class NullObserver:
    """Reports to nobody."""

    def decoded(self, seconds: float) -> None:
        """Does nothing."""

    def batch(self, model: str, size: int, seconds: float) -> None:
        """Does nothing."""

    def dropped(self, reason: str) -> None:
        """Does nothing."""

    def image_failed(self, reason: str) -> None:
        """Does nothing."""

    def cached(self, result: str) -> None:
        """Does nothing."""
