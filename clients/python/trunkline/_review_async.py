"""What `AsyncClient` asks between two fits. `_review` is its twin."""

from __future__ import annotations

from typing import Any

from trunkline._async import AsyncCalls
from trunkline._wire import review as wire
from trunkline.heads import Suggestions


class AsyncReviewMethods:
    """The part of `AsyncClient` that is about making a head better; see `ReviewMethods`."""

    _calls: AsyncCalls

    async def head_report(self, reference: str, *, timeout: float | None = None) -> dict[str, Any]:
        """As `Client.head_report`."""
        return await self._calls.ask(wire.report(reference), timeout)

    async def suggest_labels(
        self, head: str, collection: str, count: int = 20, *, timeout: float | None = None
    ) -> Suggestions:
        """As `Client.suggest_labels`."""
        return await self._calls.ask(wire.suggest(head, collection, count), timeout)
