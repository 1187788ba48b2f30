"""Making the calls, with tasks. `_sync` is its twin; what they say to each other is in `_wire`."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, NoReturn

import grpc
from grpc import aio

from trunkline._options import Options, Rim
from trunkline._plan import Plan
from trunkline._wire import catalog, status
from trunkline._wire.chunks import EMPTY, Chunk, Columns, Feed
from trunkline._wire.items import as_iterable, is_in_memory
from trunkline._wire.job import Job, R
from trunkline._wire.methods import ALL, Method
from trunkline._wire.question import A, Question, Series, Stream, T
from trunkline._wire.retry import Attempts, RetryPolicy
from trunkline.exceptions import Cancelled, TrunklineError
from trunkline.values import ServerInfo


class AsyncCalls(Plan):
    """Calls over channels of one event loop.

    Args:
        connect: Opens the channels; called with the first call, for they belong to a running loop.
        target: The server's address, for messages.
        options: How hard to drive the server.
        rim: Clock, chance and pauses.
    """

    def __init__(
        self, connect: Callable[[], Sequence[aio.Channel]], target: str, options: Options, rim: Rim
    ) -> None:
        super().__init__(target, options, rim)
        self._connect = connect
        self._channels: Sequence[aio.Channel] = ()
        self._stubs: list[dict[str, Any]] = []

    async def close(self) -> None:
        """Ends calls under way and closes the channels; a second time does nothing."""
        self.closed = True
        for channel in self._channels:
            await channel.close()

    async def ask(self, question: Question[T], timeout: float | None, policy: RetryPolicy | None = None) -> T:
        """The answer to a question."""
        attempts = self._attempts(timeout, question.items, policy)
        return question.read(await self._invoke(question.method, question.request, attempts))

    async def gather(self, series: Series[A, T], timeout: float | None) -> T:
        """The answer to a series of questions, asked one after the other."""
        info = self._info or await self.server_info()
        return series.merge([await self.ask(question, timeout) for question in series.questions(info)])

    async def stream(self, stream: Stream[T], timeout: float | None) -> AsyncGenerator[T, None]:
        """The answers of a stream, as they come; without ``timeout`` it may take as long as its reader."""
        attempts = self._attempts(math.inf if timeout is None else timeout)
        while True:
            self.check_open()
            call = self._stub(stream.method)(stream.request, timeout=attempts.remaining())
            try:
                async for reply in call:
                    yield stream.read(reply)
                return
            except grpc.RpcError as error:
                if self.closed:
                    raise Cancelled("the call was ended before its answer came") from error
                refusal = status.read(error, self._target)
                if stream.begun:
                    attempts.broke_off(refusal, stream.words(refusal), error)
                pause = attempts.after(refusal, error)
            except asyncio.CancelledError as error:
                self._check_ours(error)
            finally:
                # No effect on a call that has ended.
                call.cancel()
            await self._rim.sleep(pause)

    async def server_info(
        self, timeout: float | None = None, policy: RetryPolicy | None = None
    ) -> ServerInfo:
        """The server's version and limits, asked anew and remembered."""
        self._info = await self.ask(catalog.server_info(), timeout, policy)
        return self._info

    async def collect(
        self, job: Job[R], images: object, timeout: float | None, said: Columns | None = None
    ) -> R:
        """The whole result of a job."""
        iterable = () if job.queries is not None else as_iterable(images)
        parts = [part async for part in self.parts(job, iterable, timeout, said)]
        if not parts:
            parts = [job.result(EMPTY, await self._fly(job, EMPTY, timeout))]
        return job.merge(parts)

    async def parts(
        self, job: Job[R], images: Any, timeout: float | None, said: Columns | None = None
    ) -> AsyncGenerator[R, None]:
        """The results of a job, chunk by chunk, in order, several requests at a time."""
        self.check_open()
        flights: deque[tuple[Chunk, asyncio.Task[Any]]] = deque()
        try:
            async for chunk in self._chunks(job, images, said):
                while flights and (len(flights) >= self._options.max_in_flight or flights[0][1].done()):
                    yield await self._landed(job, flights, timeout)
                flights.append((chunk, asyncio.create_task(self._fly(job, chunk, timeout))))
            while flights:
                yield await self._landed(job, flights, timeout)
        finally:
            for _, flight in flights:
                flight.cancel()
            await asyncio.gather(*(flight for _, flight in flights), return_exceptions=True)

    async def _chunks(self, job: Job[Any], images: Any, said: Columns | None) -> AsyncIterator[Chunk]:
        if job.queries is not None:
            if len(job.queries):
                for chunk in job.queries.chunks(self._limits(job, self._info or await self.server_info())):
                    yield chunk
            return
        feed: Feed | None = None
        async for image in _each(images):
            feed = feed or Feed(self._limits(job, self._info or await self.server_info()), said)
            entry = feed.read(image) if is_in_memory(image) else await asyncio.to_thread(feed.read, image)
            if (full := feed.push(entry)) is not None:
                yield full
        if feed is not None and (last := feed.finish()) is not None:
            yield last

    async def _fly(self, job: Job[Any], chunk: Chunk, timeout: float | None) -> Any:
        """The reply to a chunk; None where there is nothing to ask, or nothing that must be known."""
        call = job.request(chunk)
        if call is None:
            return None
        try:
            return await self._invoke(*call, self._attempts(timeout, chunk.items))
        except TrunklineError:
            if job.needs_answer(chunk):
                raise
            return None

    async def _landed(
        self, job: Job[R], flights: deque[tuple[Chunk, asyncio.Task[Any]]], timeout: float | None
    ) -> R:
        chunk, flight = flights[0]
        reply = await flight
        flights.popleft()
        if job.outdated(reply):
            reply = await self._fly(job, chunk, timeout)
        return job.result(chunk, reply)

    async def _invoke(self, method: Method[Any, Any], request: Any, attempts: Attempts) -> Any:
        while True:
            self.check_open()
            try:
                return await self._stub(method)(request, timeout=attempts.remaining())
            except grpc.RpcError as error:
                pause = attempts.after(status.read(error, self._target), error)
            except asyncio.CancelledError as error:
                self._check_ours(error)
            await self._rim.sleep(pause)

    def _check_ours(self, error: asyncio.CancelledError) -> NoReturn:
        """Tells a closed client from a cancelled task; gRPC raises the same for both.

        Raises:
            Cancelled: The client was closed.
            asyncio.CancelledError: The task was cancelled.
        """
        task = asyncio.current_task()
        if not self.closed or (task is not None and task.cancelling()):
            raise error
        raise Cancelled("the call was ended before its answer came") from error

    def _stub(self, method: Method[Any, Any]) -> Any:
        if not self._stubs:
            self._channels = self._connect()
            self._stubs = [
                {
                    m.path: (c.unary_stream if m.streams else c.unary_unary)(
                        m.path, m.request.SerializeToString, m.reply.FromString
                    )
                    for m in ALL
                }
                for c in self._channels
            ]
        return self._stubs[next(self._turns) % len(self._stubs)][method.path]


async def _each(images: Any) -> AsyncIterator[object]:
    if hasattr(images, "__aiter__"):
        async for image in images:
            yield image
    else:
        for image in images:
            yield image
