"""When a refused call is tried again, and when it becomes an exception. Neither sleeps nor calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from trunkline._wire.status import Refusal
from trunkline.exceptions import FailedPrecondition, InvalidRequest, NotFound, Timeout, TrunklineError

# Of what is wrong with a request itself, the server's message names the item, where it is one.
_FAULTS = (InvalidRequest, NotFound, FailedPrecondition)


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter, on top of what the server asked for.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Attributes:
        retries: Attempts after the first.
        base_s: Upper end of the first pause's jitter, in seconds; it doubles with each attempt.
        cap_s: Where the doubling ends.
    """

    retries: float = 4
    base_s: float = 0.1
    cap_s: float = 5.0

    def pause(self, attempt: int, pushback_s: float, random: Callable[[], float]) -> float:
        """Seconds before the attempt after ``attempt`` (from 1).

        The jitter is added to the pushback: with the larger of the two, all callers that were
        refused together would come back together.
        """
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 64))
        return pushback_s + random() * ceiling


READY = RetryPolicy(retries=math.inf, cap_s=1.0)
"""For a server that is starting: until the time is up."""


class Attempts:
    """The attempts of one call, within its deadline.

    Args:
        policy: How often and how long.
        timeout_s: For all attempts and pauses together; infinite for no deadline.
        clock: Monotonic seconds.
        random: Uniform in [0, 1).
        items: Which items of the input the call carries, for the exception.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        timeout_s: float,
        clock: Callable[[], float],
        random: Callable[[], float],
        items: range | None = None,
    ) -> None:
        self._policy = policy
        self._timeout_s = timeout_s
        self._clock = clock
        self._random = random
        self._items = items
        self._ends = clock() + timeout_s
        self._made = 0

    def remaining(self) -> float | None:
        """Seconds that the next attempt may take; None for no deadline."""
        if math.isinf(self._ends):
            return None
        return max(self._ends - self._clock(), 0.0)

    def after(self, refusal: Refusal, cause: BaseException) -> float:
        """Seconds to pause before another attempt.

        Raises:
            TrunklineError: There is none; the kind is the refusal's, raised from ``cause``.
        """
        self._made += 1
        if not refusal.retryable or self._made > self._policy.retries:
            raise self._error(refusal) from cause
        pause = self._policy.pause(self._made, refusal.pushback_s, self._random)
        left = self.remaining()
        if left is not None and pause >= left:
            raise self._error(refusal) from cause
        return pause

    def broke_off(self, refusal: Refusal, progress: str, cause: BaseException) -> NoReturn:
        """Ends a stream that had begun: its replies were used already, so it is not tried again unnoticed.

        Raises:
            TrunklineError: The kind is the refusal's, raised from ``cause``; it says how far it came.
        """
        message = f"{refusal.message} ({progress})" if progress else refusal.message
        raise self._error(replace(refusal, message=message)) from cause

    def _error(self, refusal: Refusal) -> TrunklineError:
        message = refusal.message
        if refusal.kind is Timeout:
            hint = "raise timeout=, or lower max_in_flight= or chunk_images="
            message = f"no answer within {self._timeout_s:g} s; {hint} ({refusal.message})"
        if self._made > 1:
            message = f"{message} (after {self._made} attempts)"
        if self._items is not None and _tells(refusal, self._items):
            message = f"{message} [items {self._items.start} to {self._items.stop - 1} of the input]"
        return refusal.kind(message, reason=refusal.reason, code=refusal.code, items=self._items)


def _tells(refusal: Refusal, items: range) -> bool:
    """Whether it helps to know which items a call carried.

    Numbers in a server's message count from the first of them, so it does from the second call on.
    """
    return items.start > 0 or (len(items) > 1 and not issubclass(refusal.kind, _FAULTS))
