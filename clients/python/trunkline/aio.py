"""The client for asyncio: what `Client` does, awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeAlias

from grpc import aio

from trunkline._async import AsyncCalls
from trunkline._collections_async import AsyncCollectionMethods
from trunkline._explore_async import AsyncExploreMethods
from trunkline._heads_async import AsyncHeadMethods
from trunkline._options import MIB, TLS, Options, Rim, channel_arguments, check_target, credentials
from trunkline._review_async import AsyncReviewMethods
from trunkline._search_async import AsyncSearchMethods
from trunkline._wire import catalog
from trunkline._wire.add import AddJob
from trunkline._wire.chunks import columns
from trunkline._wire.embed import EmbedJob, FloatName
from trunkline._wire.items import ImageInput, as_iterable
from trunkline._wire.job import Lane
from trunkline._wire.retry import READY
from trunkline.results import AddResult, EmbedResult
from trunkline.rows import Label, Scalar
from trunkline.values import ModelInfo, ServerInfo

ImageInputs: TypeAlias = Iterable[ImageInput] | AsyncIterable[ImageInput]


class AsyncClient(
    AsyncCollectionMethods, AsyncHeadMethods, AsyncReviewMethods, AsyncSearchMethods, AsyncExploreMethods
):
    """A connection to a Trunkline server for one event loop; close it, or use it in an ``async with``.

    ::

        async with trunkline.AsyncClient("localhost:50051") as client:
            vectors = (await client.embed(["cat.jpg", "dog.jpg"])).vectors

    Arguments, results and errors are `Client`'s. Images may come from an asynchronous iterable too.
    Files are read in a thread; a plain iterator that takes long holds the loop up.

    Args:
        target: ``"host:port"``.
        channels: Connections; requests are spread over them.
        timeout: Seconds that one request may take, its retries included.
        tls: True for TLS with gRPC's default roots, or a `TLS`.
        max_in_flight: Requests of one call on their way at once; None for two a channel.
        chunk_bytes: Bytes of images in one request; an image that is larger goes alone.
        chunk_images: Images in one request.
        retries: Attempts after the first where the server is overloaded or can't be reached.

    Raises:
        ValueError: An argument out of range.
    """

    def __init__(
        self,
        target: str,
        *,
        channels: int = 4,
        timeout: float = 60.0,
        tls: bool | TLS = False,
        max_in_flight: int | None = None,
        chunk_bytes: int = 8 * MIB,
        chunk_images: int = 64,
        retries: int = 4,
        _rim: Rim | None = None,
    ) -> None:
        check_target(target, channels)
        in_flight = 2 * channels if max_in_flight is None else max_in_flight
        options = Options(timeout, in_flight, chunk_bytes, chunk_images, retries)
        secret, arguments = credentials(tls), channel_arguments(tls)

        def connect() -> Sequence[aio.Channel]:
            if secret is None:
                return [aio.insecure_channel(target, arguments) for _ in range(channels)]
            return [aio.secure_channel(target, secret, arguments) for _ in range(channels)]

        self._calls = AsyncCalls(connect, target, options, _rim or Rim())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._calls})"

    async def close(self) -> None:
        """Ends calls under way and closes the connections; a second time does nothing."""
        await self._calls.close()

    async def embed(
        self,
        images: ImageInput | ImageInputs,
        model: str = "",
        *,
        dtype: FloatName = "float32",
        lane: Lane = "interactive",
        expect_space: str | None = None,
        timeout: float | None = None,
    ) -> EmbedResult:
        """As `Client.embed`."""
        return await self._calls.collect(EmbedJob(model, dtype, lane, expect_space), images, timeout)

    def embed_iter(
        self,
        images: ImageInput | ImageInputs,
        model: str = "",
        *,
        dtype: FloatName = "float32",
        lane: Lane = "interactive",
        expect_space: str | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[EmbedResult, None]:
        """As `Client.embed_iter`: an asynchronous generator; `contextlib.aclosing` ends it early."""
        return self._calls.parts(EmbedJob(model, dtype, lane, expect_space), as_iterable(images), timeout)

    async def add(
        self,
        collection: str,
        images: ImageInput | ImageInputs,
        ids: str | Iterable[str] | None = None,
        labels: str | Iterable[Label] | None = None,
        *,
        sources: str | Iterable[str] | None = None,
        splits: str | Iterable[str | None] | None = None,
        metadata: Mapping[str, Scalar] | Iterable[Mapping[str, Scalar] | None] | None = None,
        model: str = "",
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> AddResult:
        """As `Client.add`."""
        said = columns(images, ids, labels, sources, splits, metadata)
        return await self._calls.collect(AddJob(collection, model, lane), images, timeout, said)

    async def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """As `Client.models`."""
        return await self._calls.ask(catalog.models(), timeout)

    async def model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """As `Client.model`."""
        return await self._calls.ask(catalog.model(name), timeout)

    async def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """As `Client.server_info`."""
        return await self._calls.server_info(timeout)

    async def wait_ready(self, timeout: float = 60.0) -> ServerInfo:
        """As `Client.wait_ready`."""
        return await self._calls.server_info(timeout, READY)
