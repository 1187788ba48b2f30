"""A run: asks the servers, builds the requests, puts on one load after another."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import grpc

from trunkline_service.bench.calls import Calls, Failure, Servers
from trunkline_service.bench.dialect import Dialect, ProtocolName, Served, refusal
from trunkline_service.bench.load import ClosedLoop, Load, Periods, arrivals
from trunkline_service.bench.loops import Rim, closed_loop, open_loop
from trunkline_service.bench.pictures import grouped, position_of
from trunkline_service.bench.tape import OK, Figures, Tape
from trunkline_service.errors import FailedPrecondition, InvalidArgument
from trunkline_service.images.inputs import ImageInput

# asyncio rounds what it sleeps up to whole milliseconds: this on average.
_ROUNDED_UP_S = 0.0005


@dataclass(frozen=True)
class Point:
    """What was measured under one load."""

    load: Load
    figures: Figures


@dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        served: The model that answered.
        points: One for each load that was measured.
        complete: Whether all loads were, each for its whole time.
        failures: The first call that failed, by status; also of a warm-up.
    """

    served: Served
    points: tuple[Point, ...]
    complete: bool
    failures: Mapping[str, Failure] = field(default_factory=dict)


def ask(servers: Servers, protocol: ProtocolName, model: str) -> Dialect:
    """Asks every server for the model; all must have the same.

    Raises:
        Unavailable: One does not answer.
        InvalidArgument: One does not speak the protocol, or has no such model.
        FailedPrecondition: They have different ones.
    """
    if protocol == "trunkline":
        from trunkline_service.bench.trunkline_dialect import ask as ask_one
    else:
        # Another implementation's protos of the same package would not fit into one process with ours.
        from trunkline_service.bench.open_inference_dialect import ask as ask_one

    found: dict[str, Dialect] = {}
    for address in servers.addresses:
        with servers.channel(address) as channel:
            try:
                found[address] = ask_one(channel, model)
            except grpc.RpcError as exc:
                raise refusal(address, exc, servers.tls_ca is not None) from exc
    first, *others = found
    for other in others:
        if found[other].served != found[first].served:
            raise FailedPrecondition(
                f"{first} serves {found[first].served} and {other} serves {found[other].served}; "
                "servers that are loaded together must serve the same, in the same way"
            )
    return found[first]


def build(
    servers: Servers,
    dialect: Dialect,
    images: Mapping[str, ImageInput],
    images_per_call: int,
    timeout_s: float,
) -> list[bytes]:
    """The requests, ready as bytes; the first was answered by every server.

    Args:
        servers: Where to.
        dialect: What is sent and what answers mean.
        images: By the names that messages give them.
        images_per_call: In a request.
        timeout_s: The deadline of a call.

    Raises:
        Unavailable: A server does not answer.
        InvalidArgument: A server refuses the request, or an image in it.
    """
    requests = [dialect.request(group) for group in grouped(list(images.values()), images_per_call)]
    for address in servers.addresses:
        with servers.channel(address) as channel:
            try:
                call: Callable[..., bytes] = channel.unary_unary(dialect.method)
                reply = call(requests[0], timeout=timeout_s)
            except grpc.RpcError as exc:
                raise refusal(address, exc, servers.tls_ca is not None) from exc
        served, status = dialect.answer(reply)
        if status != OK or served != images_per_call:
            raise InvalidArgument(
                f"{address} served {served} of {images_per_call} images of the first request: "
                f"{_first_bad(dialect, reply, list(images), images_per_call) or status}; "
                "give images that it can decode"
            )
    return requests


def _first_bad(dialect: Dialect, reply: bytes, names: Sequence[str], images_per_call: int) -> str:
    """``"photos/b.jpg: the JPEG ends too early"``; nothing where the protocol does not tell."""
    found = dialect.first_bad(reply)
    if found is None:
        return ""
    position, message = found
    return f"{names[position_of(0, position, images_per_call, len(names))]}: {message}"


def put_on(
    open_calls: Callable[[], Calls],
    served: Served,
    loads: Sequence[Load],
    periods: Periods,
    *,
    seed: int = 0,
    told: Callable[[Load], None] = lambda _load: None,
) -> Result:
    """Puts loads on, one after another. Ctrl-C ends it early, and what was measured is returned.

    Args:
        open_calls: Opens the channels; called in the event loop.
        served: What the servers serve.
        loads: What is asked.
        periods: How long each.
        seed: Of the arrivals.
        told: Told of each load before it is put on.
    """
    return asyncio.run(_put_on(open_calls, served, loads, periods, seed, told))


async def _put_on(
    open_calls: Callable[[], Calls],
    served: Served,
    loads: Sequence[Load],
    periods: Periods,
    seed: int,
    told: Callable[[Load], None],
) -> Result:
    rim = Rim(time.perf_counter, time.process_time, _until, asyncio.Event())
    points: list[Point] = []
    failures: Mapping[str, Failure] = {}
    with _stopped_by_interrupt(rim.stop):
        async with open_calls() as calls:
            failures = calls.failures
            for load in loads:
                if rim.stop.is_set():
                    break
                told(load)
                figures = await _measure(calls, load, periods, rim, seed)
                points += [Point(load, figures)] if figures else []
    return Result(served, tuple(points), complete=not rim.stop.is_set(), failures=failures)


async def _measure(calls: Calls, load: Load, periods: Periods, rim: Rim, seed: int) -> Figures | None:
    tape = Tape()
    if isinstance(load, ClosedLoop):
        window = await closed_loop(calls, load.callers, periods, rim, tape)
    else:
        chance = random.Random(seed)  # noqa: S311 - no secret
        dues = arrivals(load.rate, periods.warm_s + periods.seconds, chance)
        window = await open_loop(calls, dues, load.outstanding, periods, rim, tape)
    return tape.figures(window) if window else None


async def _until(instant: float) -> None:
    """Waits for an instant of ``time.perf_counter``: half a millisecond early or late."""
    rest = instant - time.perf_counter()
    if rest > 0:
        await asyncio.sleep(max(0.0, rest - _ROUNDED_UP_S))


@contextlib.contextmanager
def _stopped_by_interrupt(stop: asyncio.Event) -> Iterator[None]:
    """The first Ctrl-C sets ``stop``; a second one is an interrupt as any."""
    loop = asyncio.get_running_loop()
    remove = functools.partial(loop.remove_signal_handler, signal.SIGINT)

    def first() -> None:
        stop.set()
        remove()

    try:
        loop.add_signal_handler(signal.SIGINT, first)
    except (NotImplementedError, RuntimeError, ValueError):
        # Not on Windows, and only in the main thread: whoever runs it elsewhere stops it otherwise.
        yield
        return
    try:
        yield
    finally:
        remove()
