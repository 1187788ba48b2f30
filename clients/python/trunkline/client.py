"""The client: images in, vectors, labels and neighbours out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

import grpc

from trunkline._collections import CollectionMethods
from trunkline._explore import ExploreMethods
from trunkline._heads import HeadMethods
from trunkline._options import MIB, TLS, Channel, Options, Rim, channel_arguments, check_target, credentials
from trunkline._review import ReviewMethods
from trunkline._search import SearchMethods
from trunkline._sync import Calls
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


class Client(CollectionMethods, HeadMethods, ReviewMethods, SearchMethods, ExploreMethods):
    """A connection to a Trunkline server. Threads may share one; close it, or use it in a ``with``.

    ::

        with trunkline.Client("localhost:50051") as client:
            vectors = client.embed(["cat.jpg", "dog.jpg"]).vectors

    Wherever images are asked for, pass one or an iterable of them, of any length: paths, encoded files
    as bytes, Pillow images, uint8 arrays (H, W, 3) RGB or (H, W) grey, or one array (N, H, W, 3). They
    are read as they are needed, sent in requests that the server takes, several at a time, and
    answered in their order. **An image that fails raises nothing**: it stands in the result's
    ``errors``, its row is empty, and the others are served; ``result.raise_for_errors()`` raises.
    A request that fails as a whole raises a `TrunklineError`, and ends those still on their way.

    Args:
        target: ``"host:port"``.
        channels: Connections; requests are spread over them.
        timeout: Seconds that one request may take, its retries included; ``math.inf`` for no end. A
            long input is many requests, each with its own.
        tls: True for TLS with gRPC's default roots, or a `TLS`.
        max_in_flight: Requests on their way at once; None for two a channel.
        chunk_bytes: Bytes of images in one request; an image that is larger goes alone.
        chunk_images: Images in one request.
        retries: Attempts after the first where the server is overloaded or can't be reached. No
            other failure is tried again. All calls may be repeated: rows are stored by their id.

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
        opened: list[Channel] = [
            grpc.secure_channel(target, secret, arguments)
            if secret
            else grpc.insecure_channel(target, arguments)
            for _ in range(channels)
        ]
        self._calls = Calls(opened, target, options, _rim or Rim())

    @classmethod
    def _over(
        cls,
        channels: Sequence[Channel],
        *,
        target: str = "the service in this process",
        timeout: float = 60.0,
        max_in_flight: int = 8,
        chunk_bytes: int = 8 * MIB,
        chunk_images: int = 64,
        retries: int = 4,
        rim: Rim | None = None,
    ) -> Self:
        """A client over channels that are open already, and that it closes."""
        client = cls.__new__(cls)
        options = Options(timeout, max_in_flight, chunk_bytes, chunk_images, retries)
        client._calls = Calls(channels, target, options, rim or Rim())
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._calls})"

    def close(self) -> None:
        """Ends calls under way and closes the connections; a second time does nothing."""
        self._calls.close()

    def embed(
        self,
        images: ImageInput | Iterable[ImageInput],
        model: str = "",
        *,
        dtype: FloatName = "float32",
        lane: Lane = "interactive",
        expect_space: str | None = None,
        timeout: float | None = None,
    ) -> EmbedResult:
        """Vectors of images, in their order.

        Args:
            images: One image or an iterable of them; see the class.
            model: ``name`` (its newest version) or ``name@version``; empty for the server's default.
            dtype: ``"float32"``, or ``"float16"`` for half the bytes on the wire.
            lane: ``"interactive"``, or ``"bulk"`` for work that gives way to it.
            expect_space: Refuse to embed unless the model's space is this one.
            timeout: Seconds for one request, instead of the client's.

        Returns:
            ``vectors`` (N, dim), NaN where an image failed. An empty input gives (0, dim), or
            (0, 0) where the server can't be asked for the model's ``dim``.

        Raises:
            TypeError: ``images`` is neither an image nor iterable.
            TrunklineError: A request failed as a whole; ``items`` says which images it carried.
        """
        return self._calls.collect(EmbedJob(model, dtype, lane, expect_space), images, timeout)

    def embed_iter(
        self,
        images: ImageInput | Iterable[ImageInput],
        model: str = "",
        *,
        dtype: FloatName = "float32",
        lane: Lane = "interactive",
        expect_space: str | None = None,
        timeout: float | None = None,
    ) -> Generator[EmbedResult, None, None]:
        """As `embed`, but one result a request, in order, each as soon as it is there.

        For inputs of millions: no more than ``max_in_flight + 1`` requests' images are held, and the
        iterable is read no further than that ahead. ``result.start`` is the index of its first row.
        """
        return self._calls.parts(EmbedJob(model, dtype, lane, expect_space), as_iterable(images), timeout)

    def add(
        self,
        collection: str,
        images: ImageInput | Iterable[ImageInput],
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
        """Embeds images and stores the rows by id; they are searchable when this returns.

        Adding an id again replaces its row, so a call that failed half-way may be repeated; label, split
        and metadata that the call does not say stay as the row has them. An image that the server can't
        use is stored as an error row; one that can't be read here is not sent.

        Args:
            collection: Made by the first add, in the model's space; multi-label where its labels are tuples.
            images: One image or an iterable of them; see the class.
            ids: One for each image; None (or an empty text) for a hash of its content.
            labels: One for each image; a tuple of texts where the collection is multi-label; None where
                nothing is said.
            sources: Where each came from; None for the path, where an image has one.
            splits: ``train``, ``test`` and the like for each, or None where nothing is said.
            metadata: Your own columns of each; new ones are added to the collection, and a value of None
                is null. None where nothing is said.
            model: ``name`` or ``name@version``; empty for the server's default.
            lane: ``"interactive"`` or ``"bulk"``.
            timeout: Seconds for one request, instead of the client's.

        Raises:
            InvalidRequest: Not one id, label or the like an image, one that can't be stored, or an id
                twice. With iterators the rows before may be stored already.
            SpaceMismatch: The collection is of another space than the model.
            TrunklineError: A request failed as a whole; those before it are stored.
        """
        said = columns(images, ids, labels, sources, splits, metadata)
        return self._calls.collect(AddJob(collection, model, lane), images, timeout, said)

    def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """The models that the server can embed with."""
        return self._calls.ask(catalog.models(), timeout)

    def model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """One model, by ``name`` or ``name@version``; the server's default for an empty name.

        Raises:
            NotFound: There is none.
        """
        return self._calls.ask(catalog.model(name), timeout)

    def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """The server's version and limits, asked anew."""
        return self._calls.server_info(timeout)

    def wait_ready(self, timeout: float = 60.0) -> ServerInfo:
        """Waits until the server answers; returns what it says of itself.

        Raises:
            Unavailable: It did not within ``timeout`` seconds.
        """
        return self._calls.server_info(timeout, READY)
