"""What `AsyncClient` asks about a whole collection. `_explore` is its twin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Literal, TypeVar

from trunkline._async import AsyncCalls
from trunkline._wire import explore as wire
from trunkline._wire.look import Look
from trunkline.explore import Clusters, Duplicates, Map, Outliers
from trunkline.rows import Scalar

Progress = Callable[[str, float], None]
"""Called with the stage, ``"reading"``, ``"comparing"`` and the like, and the share of it that is done."""

R = TypeVar("R")


class AsyncExploreMethods:
    """The part of `AsyncClient` that is about what a collection holds; see `ExploreMethods`."""

    _calls: AsyncCalls

    async def duplicates(
        self,
        collection: str,
        threshold: float | None = None,
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        exact: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Duplicates:
        """As `Client.duplicates`."""
        look = wire.FindDuplicates(collection, threshold, where, parameters, exact)
        return await self._look(look, progress, timeout)

    async def outliers(
        self,
        collection: str,
        count: int = 50,
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        neighbours: int = 10,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Outliers:
        """As `Client.outliers`."""
        look = wire.FindOutliers(collection, count, where, parameters, neighbours)
        return await self._look(look, progress, timeout)

    async def clusters(
        self,
        collection: str,
        count: int | None = None,
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Clusters:
        """As `Client.clusters`."""
        return await self._look(wire.FindClusters(collection, count, where, parameters), progress, timeout)

    async def map(
        self,
        collection: str,
        method: Literal["pca", "umap"] = "pca",
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        points: int | None = None,
        clusters: int | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Map:
        """As `Client.map`."""
        look = wire.DrawMap(collection, method, where, parameters, points, clusters)
        return await self._look(look, progress, timeout)

    async def _look(self, look: Look[R], progress: Progress | None, timeout: float | None) -> R:
        async with aclosing(self._calls.stream(look, timeout)) as steps:
            async for step in steps:
                if step is not None and progress is not None:
                    progress(*step)
        return look.result()
