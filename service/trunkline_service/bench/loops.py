"""The two loops that put load on a server. Clock, pauses and the call itself are passed in."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from trunkline_service.bench.load import Periods
from trunkline_service.bench.tape import OK, Tape, Window

# (caller, number of its call) -> images served, status.
Call = Callable[[int, int], Awaitable[tuple[int, str]]]

# Callers that are refused at once would otherwise ask as fast as they can.
_AFTER_AN_ERROR_S = 0.01


@dataclass(frozen=True)
class Rim:
    """What the loops take from outside.

    Attributes:
        clock: Seconds; only differences count.
        cpu: Processor seconds of this process.
        until: Waits for about an instant of the clock.
        stop: Set to end early.
    """

    clock: Callable[[], float]
    cpu: Callable[[], float]
    until: Callable[[float], Awaitable[None]]
    stop: asyncio.Event


async def closed_loop(call: Call, callers: int, periods: Periods, rim: Rim, tape: Tape) -> Window | None:
    """Callers that each ask again as soon as they are answered; see ``_window`` for what is returned."""
    end = rim.clock() + periods.warm_s + periods.seconds

    async def caller(number: int) -> None:
        for turn in itertools.count():
            begun = rim.clock()
            if begun >= end or rim.stop.is_set():
                return
            images, status = await call(number, turn)
            tape.add(begun, begun, rim.clock(), images, status)
            if status != OK:
                await rim.until(rim.clock() + _AFTER_AN_ERROR_S)

    tasks = {asyncio.create_task(caller(number)) for number in range(callers)}
    try:
        return await _window(periods, rim)
    finally:
        await _settle(tasks, rim.stop)


async def open_loop(
    call: Call, dues: Iterable[float], outstanding: int, periods: Periods, rim: Rim, tape: Tape
) -> Window | None:
    """Calls that begin when they are due, answered earlier ones or not.

    A latency counts from when its call was due, so that a server that hangs is not measured by fewer calls.

    Args:
        call: The call.
        dues: When calls are due, in seconds from now, ascending.
        outstanding: The most calls that wait for an answer at once; others are counted as overflow.
        periods: How long.
        rim: Clock and pauses.
        tape: Where calls are noted.

    Returns:
        See ``_window``.
    """
    start = rim.clock()
    tasks: set[asyncio.Task[None]] = set()

    async def one(number: int, due: float) -> None:
        begun = rim.clock()
        images, status = await call(number, 0)
        # Timers can be early too: a call is never measured by less than it took.
        tape.add(min(due, begun), begun, rim.clock(), images, status)

    async def arrive() -> None:
        for number, due in enumerate(dues):
            await rim.until(start + due)
            if len(tasks) >= outstanding:
                tape.overflow(start + due)
                continue
            task = asyncio.create_task(one(number, start + due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    arriving = asyncio.create_task(arrive())
    try:
        return await _window(periods, rim)
    finally:
        # No call is due after the window; what is late by then is still sent, unless it is to stop.
        await _settle({arriving}, rim.stop)
        await _settle(set(tasks), rim.stop)


async def _window(periods: Periods, rim: Rim) -> Window | None:
    """What counts: begins after the warm-up, ends after its seconds or early; None if stopped before it began."""
    now = rim.clock()
    await _unless_stopped(rim.until(now + periods.warm_s), rim.stop)
    if rim.stop.is_set():
        return None
    start, cpu = rim.clock(), rim.cpu()
    await _unless_stopped(rim.until(now + periods.warm_s + periods.seconds), rim.stop)
    return Window(start, rim.clock(), rim.cpu() - cpu)


async def _unless_stopped(wait: Awaitable[None], stop: asyncio.Event) -> None:
    waiting, stopping = asyncio.ensure_future(wait), asyncio.create_task(stop.wait())
    await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    stopping.cancel()
    await asyncio.gather(waiting, stopping, return_exceptions=True)


async def _settle(tasks: set[asyncio.Task[None]], stop: asyncio.Event) -> None:
    """Waits for tasks, or cancels them if it is to stop; raises what one of them raised."""
    if tasks:
        await _unless_stopped(_all(tasks), stop)
    for task in tasks:
        if not task.done():
            task.cancel()
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(found, Exception):
            raise found


def _all(tasks: set[asyncio.Task[None]]) -> Coroutine[Any, Any, None]:
    async def wait() -> None:
        await asyncio.wait(tasks)

    return wait()
