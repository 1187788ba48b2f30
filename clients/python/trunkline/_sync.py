"""Making the calls, with threads. `_async` is its twin; what they say to each other is in `_wire`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import grpc

from trunkline._flight import Stop
from trunkline._options import Channel, Options, Rim
from trunkline._plan import Plan
from trunkline._wire import catalog, status
from trunkline._wire.chunks import EMPTY, Chunk, Columns, Feed
from trunkline._wire.items import as_iterable
from trunkline._wire.job import Job, R
from trunkline._wire.methods import ALL, Method
from trunkline._wire.question import A, Question, Series, Stream, T
from trunkline._wire.retry import Attempts, RetryPolicy
from trunkline.exceptions import Cancelled, TrunklineError
from trunkline.values import ServerInfo


class Calls(Plan):
    """Calls over some channels; threads may share it.

    Args:
        channels: Open; they are closed with this.
        target: The server's address, for messages.
        options: How hard to drive the server.
        rim: Clock, chance and pauses.
    """

    def __init__(self, channels: Sequence[Channel], target: str, options: Options, rim: Rim) -> None:
        super().__init__(target, options, rim)
        self._channels = channels
        self._stubs = [
            {
                m.path: (c.unary_stream if m.streams else c.unary_unary)(
                    m.path, m.request.SerializeToString, m.reply.FromString
                )
                for m in ALL
            }
            for c in channels
        ]
        # Threads start as they are needed, so that a client that never embeds has none.
        self._pool = ThreadPoolExecutor(options.max_in_flight, thread_name_prefix="trunkline")
        self._stop = Stop()

    def close(self) -> None:
        """Ends calls under way and closes the channels; a second time does nothing."""
        self.closed = True
        self._stop.cancel()
        for channel in self._channels:
            channel.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def ask(self, question: Question[T], timeout: float | None, policy: RetryPolicy | None = None) -> T:
        """The answer to a question."""
        self.check_open()
        with self._stop.watching(Stop()) as stop:
            attempts = self._attempts(timeout, question.items, policy)
            return question.read(self._invoke(question.method, question.request, attempts, stop))

    def gather(self, series: Series[A, T], timeout: float | None) -> T:
        """The answer to a series of questions, asked one after the other."""
        info = self._info or self.server_info()
        return series.merge([self.ask(question, timeout) for question in series.questions(info)])

    def stream(self, stream: Stream[T], timeout: float | None) -> Generator[T, None, None]:
        """The answers of a stream, as they come; without ``timeout`` it may take as long as its reader."""
        self.check_open()
        attempts = self._attempts(math.inf if timeout is None else timeout)
        with self._stop.watching(Stop()) as stop:
            while True:
                stop.check()
                try:
                    stub = self._stub(stream.method)
                    with stop.watching(stub(stream.request, timeout=attempts.remaining())) as call:
                        for reply in call:
                            yield stream.read(reply)
                    return
                except grpc.RpcError as error:
                    stop.check()
                    refusal = status.read(error, self._target)
                    if stream.begun:
                        attempts.broke_off(refusal, stream.words(refusal), error)
                    pause = attempts.after(refusal, error)
                self._rim.wait(stop.event, pause)

    def server_info(self, timeout: float | None = None, policy: RetryPolicy | None = None) -> ServerInfo:
        """The server's version and limits, asked anew and remembered."""
        self._info = self.ask(catalog.server_info(), timeout, policy)
        return self._info

    def collect(self, job: Job[R], images: object, timeout: float | None, said: Columns | None = None) -> R:
        """The whole result of a job."""
        iterable = () if job.queries is not None else as_iterable(images)
        parts = list(self.parts(job, iterable, timeout, said))
        if not parts:
            with self._stop.watching(Stop()) as stop:
                parts = [job.result(EMPTY, self._fly(job, EMPTY, timeout, stop))]
        return job.merge(parts)

    def parts(
        self, job: Job[R], images: Iterable[object], timeout: float | None, said: Columns | None = None
    ) -> Generator[R, None, None]:
        """The results of a job, chunk by chunk, in order, several requests at a time."""
        self.check_open()
        flights: deque[tuple[Chunk, Future[Any]]] = deque()
        # Leaving the block, for whatever reason, ends the requests that are still on their way.
        with self._stop.watching(Stop()) as stop:
            for chunk in self._chunks(job, images, said):
                while flights and (len(flights) >= self._options.max_in_flight or flights[0][1].done()):
                    yield self._landed(job, *flights.popleft(), timeout, stop)
                self.check_open()
                flights.append((chunk, self._pool.submit(self._fly, job, chunk, timeout, stop)))
            while flights:
                yield self._landed(job, *flights.popleft(), timeout, stop)

    def _chunks(self, job: Job[Any], images: Iterable[object], said: Columns | None) -> Iterator[Chunk]:
        if job.queries is not None:
            if len(job.queries):
                yield from job.queries.chunks(self._limits(job, self._info or self.server_info()))
            return
        feed: Feed | None = None
        for image in images:
            feed = feed or Feed(self._limits(job, self._info or self.server_info()), said)
            if (chunk := feed.push(feed.read(image))) is not None:
                yield chunk
        if feed is not None and (chunk := feed.finish()) is not None:
            yield chunk

    def _fly(self, job: Job[Any], chunk: Chunk, timeout: float | None, stop: Stop) -> Any:
        """The reply to a chunk; None where there is nothing to ask, or nothing that must be known."""
        call = job.request(chunk)
        if call is None:
            return None
        try:
            return self._invoke(*call, self._attempts(timeout, chunk.items), stop)
        except TrunklineError:
            if job.needs_answer(chunk):
                raise
            return None

    def _landed(self, job: Job[R], chunk: Chunk, flight: Future[Any], timeout: float | None, stop: Stop) -> R:
        reply = flight.result()
        if job.outdated(reply):
            reply = self._fly(job, chunk, timeout, stop)
        return job.result(chunk, reply)

    def _invoke(self, method: Method[Any, Any], request: Any, attempts: Attempts, stop: Stop) -> Any:
        while True:
            stop.check()
            try:
                with stop.watching(self._stub(method).future(request, timeout=attempts.remaining())) as call:
                    return call.result()
            except grpc.RpcError as error:
                pause = attempts.after(status.read(error, self._target), error)
            except (grpc.FutureCancelledError, CancelledError) as error:
                # The second is what a future of this process raises.
                raise Cancelled("the call was ended before its answer came") from error
            self._rim.wait(stop.event, pause)

    def _stub(self, method: Method[Any, Any]) -> Any:
        return self._stubs[next(self._turns) % len(self._stubs)][method.path]
