"""The client: images in, vectors, labels and neighbours out."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from numpy.typing import ArrayLike

from trunkline._flight import Stop
from trunkline._options import MIB, TLS, Channel, Options, Rim, channel_arguments, check_target, credentials
from trunkline._wire import catalog, status
from trunkline._wire.add import AddJob
from trunkline._wire.catalog import Question
from trunkline._wire.chunks import EMPTY, Chunk, Columns, Feed, Limits, columns
from trunkline._wire.embed import EmbedJob, FloatName
from trunkline._wire.items import ImageInput, as_iterable
from trunkline._wire.job import Job, Lane, R
from trunkline._wire.methods import ALL, Method
from trunkline._wire.predict import PredictJob
from trunkline._wire.queries import queries
from trunkline._wire.retry import READY, Attempts, RetryPolicy
from trunkline._wire.search import SearchJob
from trunkline.exceptions import Cancelled, TrunklineError
from trunkline.results import AddResult, EmbedResult, PredictResult, SearchResult
from trunkline.values import CollectionInfo, HeadInfo, ModelInfo, ServerInfo

T = TypeVar("T")


class Client:
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
            other failure is tried again. All calls may be repeated: rows are added by their id.

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
            grpc.secure_channel(target, secret, arguments) if secret else grpc.insecure_channel(target, arguments)
            for _ in range(channels)
        ]
        self._begin(opened, target, options, _rim or Rim())

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
        client._begin(channels, target, options, rim or Rim())
        return client

    def _begin(self, channels: Sequence[Channel], target: str, options: Options, rim: Rim) -> None:
        self._channels = channels
        self._target = target
        self._options = options
        self._rim = rim
        self._stubs = [
            {m.path: c.unary_unary(m.path, m.request.SerializeToString, m.reply.FromString) for m in ALL}
            for c in channels
        ]
        self._turns = itertools.count()
        # Threads start as they are needed, so that a client of single calls has none.
        self._pool = ThreadPoolExecutor(options.max_in_flight, thread_name_prefix="trunkline")
        self._info: ServerInfo | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._target!r}{', closed' if self._closed else ''})"

    def close(self) -> None:
        """Ends calls under way and closes the connections; a second time does nothing."""
        self._closed = True
        for channel in self._channels:
            channel.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

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
        return self._collect(EmbedJob(model, dtype, lane, expect_space), images, timeout)

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
        return self._parts(EmbedJob(model, dtype, lane, expect_space), as_iterable(images), timeout)

    def add(
        self,
        collection: str,
        images: ImageInput | Iterable[ImageInput],
        ids: str | Iterable[str] | None = None,
        labels: str | Iterable[str | None] | None = None,
        sources: str | Iterable[str] | None = None,
        model: str = "",
        *,
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> AddResult:
        """Embeds images and stores the rows by id; they are searchable when this returns.

        Adding an id again replaces its row, so a call that failed half-way may be repeated. An image
        that the server can't use is stored as an error row; one that can't be read here is not sent.

        Args:
            collection: Made by the first add, in the model's space.
            images: One image or an iterable of them; see the class.
            ids: One for each image; None (or an empty text) for a hash of its content.
            labels: One for each image, or None for those without.
            sources: Where each came from; None for the path, where an image has one.
            model: ``name`` or ``name@version``; empty for the server's default.
            lane: ``"interactive"`` or ``"bulk"``.
            timeout: Seconds for one request, instead of the client's.

        Raises:
            InvalidRequest: Not one id, label or source an image, or an id twice. With iterators the
                rows before may be stored already.
            SpaceMismatch: The collection is of another space than the model.
            TrunklineError: A request failed as a whole; those before it are stored.
        """
        said = columns(images, ids, labels, sources)
        return self._collect(AddJob(collection, model, lane), images, timeout, said)

    def predict(
        self,
        images: ImageInput | Iterable[ImageInput] | None = None,
        *,
        head: str,
        vectors: ArrayLike | EmbedResult | None = None,
        space_id: str | None = None,
        model: str = "",
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> PredictResult:
        """Labels of images, or of vectors that are there already.

        Args:
            images: One image or an iterable of them; see the class.
            head: ``name`` (its newest version) or ``name@version``.
            vectors: (N, dim) numbers, or an `EmbedResult`, instead of images.
            space_id: The space of the vectors; an `EmbedResult` knows its own.
            model: What embeds the images; empty for the model that the head was fitted with.
            lane: ``"interactive"`` or ``"bulk"``.
            timeout: Seconds for one request, instead of the client's.

        Raises:
            InvalidRequest: Not exactly one of images and vectors.
            SpaceMismatch: The vectors lie in another space than the head's.
            TrunklineError: A request failed as a whole.
        """
        job = PredictJob(head, model, lane, queries(images, vectors, space_id))
        return self._collect(job, images, timeout)

    def search(
        self,
        collection: str,
        images: ImageInput | Iterable[ImageInput] | None = None,
        *,
        vectors: ArrayLike | EmbedResult | None = None,
        ids: str | Iterable[str] | None = None,
        k: int = 10,
        where: str | None = None,
        space_id: str | None = None,
        lane: Lane = "interactive",
        timeout: float | None = None,
    ) -> SearchResult:
        """The nearest rows of a collection, for each query, nearest first.

        Args:
            collection: Where to search.
            images: One image or an iterable of them as queries; see the class.
            vectors: (N, dim) numbers, or an `EmbedResult`, as queries.
            ids: Rows of the collection as queries; a row is not its own neighbour.
            k: How many neighbours at most.
            where: A condition over the collection's columns, e.g. ``"label = 'rose'"``.
            space_id: The space of the vectors; an `EmbedResult` knows its own.
            lane: ``"interactive"`` or ``"bulk"``.
            timeout: Seconds for one request, instead of the client's.

        Raises:
            InvalidRequest: Not exactly one of images, vectors and ids, or ``k`` below 1.
            SpaceMismatch: The vectors lie in another space than the collection's.
            TrunklineError: A request failed as a whole.
        """
        job = SearchJob(collection, k, where, lane, queries(images, vectors, space_id, ids, takes_ids=True))
        return self._collect(job, images, timeout)

    def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """The models that the server can embed with."""
        return self._ask(catalog.models(), timeout)

    def model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """One model, by ``name`` or ``name@version``; the server's default for an empty name.

        Raises:
            NotFound: There is none.
        """
        return self._ask(catalog.model(name), timeout)

    def collections(self, *, timeout: float | None = None) -> list[CollectionInfo]:
        """The server's collections."""
        return self._ask(catalog.collections(), timeout)

    def collection(self, name: str, *, timeout: float | None = None) -> CollectionInfo:
        """One collection.

        Raises:
            NotFound: There is none.
        """
        return self._ask(catalog.collection(name), timeout)

    def heads(self, *, timeout: float | None = None) -> list[HeadInfo]:
        """The heads that the server can predict with."""
        return self._ask(catalog.heads(), timeout)

    def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """The server's version and limits, asked anew."""
        self._info = self._ask(catalog.server_info(), timeout)
        return self._info

    def wait_ready(self, timeout: float = 60.0) -> ServerInfo:
        """Waits until the server answers; returns what it says of itself.

        Raises:
            Unavailable: It did not within ``timeout`` seconds.
        """
        self._info = self._ask(catalog.server_info(), timeout, READY)
        return self._info

    def _ask(self, question: Question[T], timeout: float | None, policy: RetryPolicy | None = None) -> T:
        attempts = self._attempts(timeout, None, policy)
        return question.read(self._invoke(question.method, question.request, attempts, Stop()))

    def _collect(
        self, job: Job[R], images: object, timeout: float | None, said: Columns | None = None
    ) -> R:
        iterable = () if job.queries is not None else as_iterable(images)
        parts = list(self._parts(job, iterable, timeout, said))
        return job.merge(parts or [job.result(EMPTY, self._fly(job, EMPTY, timeout, Stop()))])

    def _parts(
        self, job: Job[R], images: Iterable[object], timeout: float | None, said: Columns | None = None
    ) -> Generator[R, None, None]:
        """The job's results, chunk by chunk, in order, several requests at a time."""
        stop = Stop()
        flights: deque[tuple[Chunk, Future[Any]]] = deque()
        try:
            for chunk in self._chunks(job, images, said):
                while flights and (len(flights) >= self._options.max_in_flight or flights[0][1].done()):
                    yield self._land(job, *flights.popleft())
                flights.append((chunk, self._pool.submit(self._fly, job, chunk, timeout, stop)))
            while flights:
                yield self._land(job, *flights.popleft())
        finally:
            stop.stop()

    def _land(self, job: Job[R], chunk: Chunk, flight: Future[Any]) -> R:
        return job.result(chunk, flight.result())

    def _chunks(self, job: Job[Any], images: Iterable[object], said: Columns | None) -> Iterator[Chunk]:
        if job.queries is not None:
            if len(job.queries):
                yield from job.queries.chunks(self._limits(job))
            return
        feed: Feed | None = None
        for image in images:
            feed = feed or Feed(self._limits(job), said)
            if (chunk := feed.push(feed.read(image))) is not None:
                yield chunk
        if feed is not None and (chunk := feed.finish()) is not None:
            yield chunk

    def _limits(self, job: Job[Any]) -> Limits:
        info = self._info or self.server_info()
        return job.limits(info, self._options.chunk_bytes, self._options.chunk_images)

    def _fly(self, job: Job[Any], chunk: Chunk, timeout: float | None, stop: Stop) -> Any:
        """The reply to a chunk; None where there is nothing to ask, or nothing that must be known."""
        call = job.request(chunk)
        if call is None:
            return None
        try:
            return self._invoke(*call, self._attempts(timeout, chunk.items), stop)
        except TrunklineError:
            if chunk.rows:
                raise
            return None

    def _attempts(
        self, timeout: float | None, items: range | None, policy: RetryPolicy | None = None
    ) -> Attempts:
        seconds = self._options.timeout if timeout is None else timeout
        policy = policy or RetryPolicy(self._options.retries)
        return Attempts(policy, seconds, self._rim.clock, self._rim.random, items)

    def _invoke(self, method: Method[Any, Any], request: Any, attempts: Attempts, stop: Stop) -> Any:
        while True:
            if self._closed:
                raise RuntimeError("this client is closed")
            stub = self._stubs[next(self._turns) % len(self._stubs)][method.path]
            try:
                with stop.watching(stub.future(request, timeout=attempts.remaining())) as call:
                    return call.result()
            except grpc.RpcError as error:
                pause = attempts.after(status.read(error, self._target), error)
            except grpc.FutureCancelledError as error:
                raise Cancelled("the call was ended before its answer came") from error
            self._rim.wait(stop.event, pause)
            stop.check()
