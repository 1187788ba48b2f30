"""What is asked of a server: callers that wait for their answers, or arrivals that do not. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

# Calls that may wait for their answers at once, of arrivals: memory stays bounded while a server falls behind.
MOST_OUTSTANDING = 1000


@dataclass(frozen=True)
class ClosedLoop:
    """Callers, each of whom asks again as soon as it was answered.

    Attributes:
        callers: How many.
    """

    callers: int

    def __str__(self) -> str:
        return f"{self.callers} caller{'s' if self.callers > 1 else ''}"


@dataclass(frozen=True)
class OpenLoop:
    """Calls that come at a rate, whether or not earlier ones were answered (a Poisson process).

    Attributes:
        rate: Calls a second, on average.
        outstanding: How many may be unanswered at once; those that come then are counted and not sent.
    """

    rate: float
    outstanding: int = MOST_OUTSTANDING

    def __str__(self) -> str:
        return f"{self.rate:g} calls/s"


Load = ClosedLoop | OpenLoop


@dataclass(frozen=True)
class Periods:
    """How long a load is put on.

    Attributes:
        warm_s: Seconds before anything counts.
        seconds: Seconds that count.
    """

    warm_s: float
    seconds: float


def arrivals(rate: float, seconds: float, chance: random.Random) -> Iterator[float]:
    """When the calls of a Poisson process come, in seconds from its start, ascending, below ``seconds``."""
    when = chance.expovariate(rate)
    while when < seconds:
        yield when
        when += chance.expovariate(rate)
