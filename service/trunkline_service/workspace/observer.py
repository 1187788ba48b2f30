"""What a workspace reports, beside what its stages do."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class ShadowObserver(Protocol):
    """Told how candidates do beside the heads that serve. Called from any thread; must not block or raise."""

    def shadow(self, head: str, serving: int, candidate: int, rows: int, disagreements: int) -> None:
        """A candidate answered ``rows`` items, ``disagreements`` of them otherwise than the serving version."""

    def shadow_failed(self, head: str) -> None:
        """A candidate could not answer."""
