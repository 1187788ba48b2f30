"""What `AsyncClient` does with heads. `_heads` is its twin."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Literal, overload

from numpy.typing import ArrayLike

from trunkline._async import AsyncCalls
from trunkline._wire import heads as wire
from trunkline._wire.items import ImageInput
from trunkline._wire.job import Lane
from trunkline._wire.predict import PredictJob, Wishes, references
from trunkline._wire.queries import queries
from trunkline.exceptions import Internal
from trunkline.heads import HeadInfo, Migration, Unknown
from trunkline.predictions import PredictResult
from trunkline.results import EmbedResult
from trunkline_protos.v1 import heads_pb2

Progress = Callable[[str, float], None]
"""Called with the stage, ``"reading"``, ``"fitting"`` and the like, and the share of it that is done."""


class AsyncHeadMethods:
    """The part of `AsyncClient` that is about heads; see `HeadMethods`."""

    _calls: AsyncCalls

    @overload
    async def predict(
        self,
        images: ImageInput | Iterable[ImageInput] | AsyncIterable[ImageInput] | None = None,
        *,
        head: str,
        heads: None = None,
        vectors: ArrayLike | EmbedResult | None = None,
        ids: str | Iterable[str] | None = None,
        collection: str = "",
        space_id: str | None = None,
        model: str = "",
        top_k: int | None = None,
        unknown: bool | Unknown = False,
        with_distances: bool | None = None,
        with_vectors: bool = False,
        neighbours: str = "",
        k: int = 10,
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> PredictResult: ...

    @overload
    async def predict(
        self,
        images: ImageInput | Iterable[ImageInput] | AsyncIterable[ImageInput] | None = None,
        *,
        head: None = None,
        heads: Iterable[str],
        vectors: ArrayLike | EmbedResult | None = None,
        ids: str | Iterable[str] | None = None,
        collection: str = "",
        space_id: str | None = None,
        model: str = "",
        top_k: int | None = None,
        unknown: bool | Unknown = False,
        with_distances: bool | None = None,
        with_vectors: bool = False,
        neighbours: str = "",
        k: int = 10,
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> dict[str, PredictResult]: ...

    async def predict(
        self,
        images: ImageInput | Iterable[ImageInput] | AsyncIterable[ImageInput] | None = None,
        *,
        head: str | None = None,
        heads: Iterable[str] | None = None,
        vectors: ArrayLike | EmbedResult | None = None,
        ids: str | Iterable[str] | None = None,
        collection: str = "",
        space_id: str | None = None,
        model: str = "",
        top_k: int | None = None,
        unknown: bool | Unknown = False,
        with_distances: bool | None = None,
        with_vectors: bool = False,
        neighbours: str = "",
        k: int = 10,
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> PredictResult | dict[str, PredictResult]:
        """As `Client.predict`."""
        named, form = references(head, heads)
        asked = queries(images, vectors, space_id, ids, takes_ids=True)
        wishes = Wishes(top_k, unknown, with_distances, with_vectors, neighbours, k)
        found = await self._calls.collect(
            PredictJob(named, model, lane, asked, collection, wishes), images, timeout
        )
        if form == "one":
            return found.of(0)
        return {name: found.of(position) for position, name in enumerate(named)}

    async def fit_head(
        self,
        collection: str,
        name: str,
        kind: str = "logistic",
        *,
        target: str = "label",
        group: str | None = None,
        test_split: str = "test",
        candidate: bool = False,
        warm: bool = False,
        report: bool = True,
        folds: int | None = None,
        grid: Sequence[float] | None = None,
        seed: int | None = None,
        transform: Literal["standardise", "l2", "whiten", "none"] | None = None,
        class_weight: Literal["none", "balanced"] | None = None,
        precision: Literal["float32", "float64"] | None = None,
        device: str | None = None,
        max_iterations: int | None = None,
        normal: str | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> HeadInfo:
        """As `Client.fit_head`."""
        request = heads_pb2.FitRequest(
            collection=collection,
            name=name,
            kind=kind,
            target=target,
            group=group or "",
            test_split=test_split,
            candidate=candidate,
            warm=warm,
            no_report=not report,
        )
        options = {
            "folds": folds,
            "grid": grid,
            "seed": seed,
            "transform": transform,
            "class_weight": class_weight,
            "precision": precision,
            "device": device,
            "max_iterations": max_iterations,
            "normal": normal,
        }
        async with aclosing(self._calls.stream(wire.fit(request, options), timeout)) as messages:
            async for message in messages:
                if message.HasField("head"):
                    return wire.head_info(message.head)
                if progress is not None:
                    progress(message.stage, message.share)
        raise Internal("the fit ended without a head")

    async def migrate_head(
        self,
        head: str,
        collection: str,
        *,
        promote: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Migration:
        """As `Client.migrate_head`."""
        async with aclosing(self._calls.stream(wire.migrate(head, collection, promote), timeout)) as messages:
            async for message in messages:
                if message.HasField("migration"):
                    return wire.migration(message.migration)
                if progress is not None:
                    progress(message.stage, message.share)
        raise Internal("the migration ended without a head")

    async def heads(self, *, timeout: float | None = None) -> list[HeadInfo]:
        """As `Client.heads`."""
        return await self._calls.ask(wire.heads(), timeout)

    async def head(self, reference: str, *, timeout: float | None = None) -> HeadInfo:
        """As `Client.head`."""
        return await self._calls.ask(wire.head(reference), timeout)

    async def promote_head(self, name: str, version: int, *, timeout: float | None = None) -> HeadInfo:
        """As `Client.promote_head`."""
        return await self._calls.ask(wire.promote(name, version), timeout)

    async def rollback_head(self, name: str, *, timeout: float | None = None) -> HeadInfo:
        """As `Client.rollback_head`."""
        return await self._calls.gather(wire.Rollback(name), timeout)

    async def delete_head(self, reference: str, *, timeout: float | None = None) -> None:
        """As `Client.delete_head`."""
        await self._calls.ask(wire.delete(reference), timeout)

    async def set_head_alias(self, alias: str, version: int, *, timeout: float | None = None) -> HeadInfo:
        """As `Client.set_head_alias`."""
        return await self._calls.ask(wire.set_alias(alias, version), timeout)

    async def delete_head_alias(self, alias: str, *, timeout: float | None = None) -> HeadInfo:
        """As `Client.delete_head_alias`."""
        return await self._calls.ask(wire.delete_alias(alias), timeout)

    async def set_shadow(self, name: str, version: int | None, *, timeout: float | None = None) -> HeadInfo:
        """As `Client.set_shadow`."""
        return await self._calls.ask(wire.set_shadow(name, version), timeout)
