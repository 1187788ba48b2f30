"""What `AsyncClient` does with neighbours and indexes. `_search` is its twin."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextlib import aclosing

from numpy.typing import ArrayLike

from trunkline._async import AsyncCalls
from trunkline._wire import index as wire
from trunkline._wire.items import ImageInput
from trunkline._wire.job import Lane
from trunkline._wire.queries import queries
from trunkline._wire.search import SearchJob, Wishes
from trunkline.exceptions import Internal
from trunkline.index import IndexInfo, IndexKind, Recall
from trunkline.results import EmbedResult, SearchResult
from trunkline.rows import Scalar

Progress = Callable[[str, float], None]
"""Called with the stage of a build and the share of it that is done."""


class AsyncSearchMethods:
    """The part of `AsyncClient` that is about neighbours and indexes; see `SearchMethods`."""

    _calls: AsyncCalls

    async def search(
        self,
        collection: str,
        images: ImageInput | Iterable[ImageInput] | AsyncIterable[ImageInput] | None = None,
        *,
        vectors: ArrayLike | EmbedResult | None = None,
        ids: str | Iterable[str] | None = None,
        k: int = 10,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        min_version: int = 0,
        min_score: float | None = None,
        group_by: str | None = None,
        per_group: int = 1,
        collapse: float | None = None,
        exact: bool = False,
        columns: Sequence[str] = (),
        space_id: str | None = None,
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> SearchResult:
        """As `Client.search`."""
        asked = queries(images, vectors, space_id, ids, takes_ids=True)
        wishes = Wishes(
            k, where, parameters, min_version, min_score, group_by, per_group, collapse, exact, columns
        )
        return await self._calls.collect(SearchJob(collection, wishes, lane, asked), images, timeout)

    async def index(self, collection: str, *, timeout: float | None = None) -> IndexInfo:
        """As `Client.index`."""
        return await self._calls.ask(wire.index(collection), timeout)

    async def build_index(
        self,
        collection: str,
        *,
        kind: IndexKind | None = None,
        recall: float | None = None,
        k: int | None = None,
        memory_mb: int | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> IndexInfo:
        """As `Client.build_index`."""
        build = wire.Build(collection, wire.options_of(kind, recall, k, memory_mb))
        async with aclosing(self._calls.stream(build, timeout)) as messages:
            async for message in messages:
                if message.HasField("index"):
                    return wire.index_info(message.index)
                if progress is not None:
                    progress(message.stage, message.share)
        raise Internal("the build ended without an index")

    async def set_index(
        self,
        collection: str,
        *,
        kind: IndexKind | None = None,
        recall: float | None = None,
        k: int | None = None,
        memory_mb: int | None = None,
        timeout: float | None = None,
    ) -> IndexInfo:
        """As `Client.set_index`."""
        options = wire.options_of(kind, recall, k, memory_mb)
        return await self._calls.ask(wire.set_index(collection, options), timeout)

    async def drop_index(self, collection: str, *, timeout: float | None = None) -> IndexInfo:
        """As `Client.drop_index`."""
        return await self._calls.ask(wire.drop_index(collection), timeout)

    async def measure_recall(
        self, collection: str, k: int = 10, queries: int = 1000, *, timeout: float | None = None
    ) -> Recall:
        """As `Client.measure_recall`."""
        return await self._calls.ask(wire.measure_recall(collection, k, queries), timeout)
