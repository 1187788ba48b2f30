"""What a client for asyncio does with collections. `_collections` is its twin."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence

from numpy.typing import ArrayLike

from trunkline._async import AsyncCalls
from trunkline._wire import collections as wire
from trunkline._wire.changes import Delete, Relabel
from trunkline._wire.embed import FloatName
from trunkline._wire.scan import GetRows, Scan
from trunkline._wire.upsert import Upsert, columns_to_rows, shares
from trunkline.collections import AliasInfo, CollectionInfo, Compacted, Purged, VersionInfo, Written
from trunkline.rows import Label, Row, Rows, Scalar

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done."""


class AsyncCollectionMethods:
    """The part of `AsyncClient` that is about stored rows; see `Client`."""

    _calls: AsyncCalls

    async def collections(self, *, timeout: float | None = None) -> list[CollectionInfo]:
        """As `Client.collections`."""
        return await self._calls.ask(wire.collections(), timeout)

    async def collection(self, name: str, *, timeout: float | None = None) -> CollectionInfo:
        """As `Client.collection`."""
        return await self._calls.ask(wire.collection(name), timeout)

    async def create_collection(
        self,
        name: str,
        model: str = "",
        *,
        space_id: str | None = None,
        dim: int | None = None,
        dtype: FloatName = "float32",
        multi_label: bool = False,
        decode: str = "",
        metric: str = "cosine",
        timeout: float | None = None,
    ) -> CollectionInfo:
        """As `Client.create_collection`."""
        question = wire.create(name, model, space_id, dim, dtype, multi_label, decode, metric)
        return await self._calls.ask(question, timeout)

    async def drop_collection(self, name: str, *, timeout: float | None = None) -> None:
        """As `Client.drop_collection`."""
        await self._calls.ask(wire.drop(name), timeout)

    async def upsert(
        self,
        collection: str,
        ids: Iterable[str],
        vectors: ArrayLike,
        *,
        space_id: str,
        labels: Iterable[Label] | None = None,
        splits: Iterable[str | None] | None = None,
        sources: Iterable[str] | None = None,
        metadata: Iterable[Mapping[str, Scalar]] | None = None,
        decode: str | None = None,
        model: str = "",
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> int:
        """As `Client.upsert`."""
        rows = columns_to_rows(ids, vectors, labels, splits, sources, metadata)
        told = shares(progress, len(rows))
        job = Upsert(collection, rows, space_id, decode or "", model, told)
        return await self._calls.gather(job, timeout)

    async def upsert_rows(
        self,
        collection: str,
        rows: Iterable[Row],
        *,
        space_id: str,
        decode: str | None = None,
        model: str = "",
        timeout: float | None = None,
    ) -> int:
        """As `Client.upsert_rows`."""
        return await self._calls.gather(Upsert(collection, rows, space_id, decode or "", model), timeout)

    async def rows(
        self,
        collection: str,
        ids: str | Iterable[str],
        *,
        vectors: bool = True,
        dtype: FloatName = "float32",
        timeout: float | None = None,
    ) -> Rows:
        """As `Client.rows`."""
        return await self._calls.gather(GetRows(collection, ids, vectors, dtype), timeout)

    def scan(
        self,
        collection: str,
        columns: Iterable[str] | None = None,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        *,
        vectors: bool | None = None,
        dtype: FloatName = "float32",
        batch_size: int | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[Rows, None]:
        """As `Client.scan`: an asynchronous generator; `contextlib.aclosing` ends it early."""
        stream = Scan(collection, columns, where, parameters, vectors, dtype, batch_size)
        return self._calls.stream(stream, timeout)

    async def relabel(
        self,
        collection: str,
        labels: Mapping[str, Label | Scalar] | None = None,
        *,
        label: Label | Scalar = None,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        column: str = "label",
        timeout: float | None = None,
    ) -> Written:
        """As `Client.relabel`."""
        if wire.check_change(labels, label, where, parameters) is None:
            return await self._calls.ask(
                wire.relabel_where(collection, label, where or "", parameters, column), timeout
            )
        return await self._calls.gather(Relabel(collection, labels or {}, column), timeout)

    async def delete(
        self,
        collection: str,
        ids: str | Iterable[str] | None = None,
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        timeout: float | None = None,
    ) -> Written:
        """As `Client.delete`."""
        if wire.check_selection(ids, where, parameters) is None:
            return await self._calls.ask(wire.delete_where(collection, where or "", parameters), timeout)
        return await self._calls.gather(Delete(collection, ids or ()), timeout)

    async def purge(
        self,
        collection: str,
        ids: str | Iterable[str] | None = None,
        *,
        where: str | None = None,
        parameters: Sequence[Scalar] = (),
        exclusive: bool = False,
        timeout: float | None = None,
    ) -> Purged:
        """As `Client.purge`."""
        return await self._calls.ask(wire.purge(collection, ids, where, parameters, exclusive), timeout)

    async def compact(
        self,
        collection: str,
        *,
        keep_seconds: float | None = None,
        keep_all: bool = False,
        timeout: float | None = None,
    ) -> Compacted:
        """As `Client.compact`."""
        return await self._calls.ask(wire.compact(collection, keep_seconds, keep_all), timeout)

    async def versions(self, collection: str, *, timeout: float | None = None) -> list[VersionInfo]:
        """As `Client.versions`."""
        return await self._calls.ask(wire.versions(collection), timeout)

    async def tag(
        self, collection: str, tag: str, version: int | None = None, *, timeout: float | None = None
    ) -> int:
        """As `Client.tag`."""
        return await self._calls.ask(wire.tag(collection, tag, version), timeout)

    async def untag(self, collection: str, tag: str, *, timeout: float | None = None) -> None:
        """As `Client.untag`."""
        await self._calls.ask(wire.untag(collection, tag), timeout)

    async def restore(self, collection: str, version: int, *, timeout: float | None = None) -> int:
        """As `Client.restore`."""
        return await self._calls.ask(wire.restore(collection, version), timeout)

    async def aliases(self, *, timeout: float | None = None) -> list[AliasInfo]:
        """As `Client.aliases`."""
        return await self._calls.ask(wire.aliases(), timeout)

    async def set_alias(
        self, alias: str, collection: str, version: int | None = None, *, timeout: float | None = None
    ) -> AliasInfo:
        """As `Client.set_alias`."""
        return await self._calls.ask(wire.set_alias(alias, collection, version), timeout)

    async def delete_alias(self, alias: str, *, timeout: float | None = None) -> None:
        """As `Client.delete_alias`."""
        await self._calls.ask(wire.delete_alias(alias), timeout)
