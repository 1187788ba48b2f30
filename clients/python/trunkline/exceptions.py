"""What the client raises.

The tree, by what mends it::

    TrunklineError
    +-- Unavailable             the server is starting, draining, or lost a stage; retried before it is raised
    |   +-- ConnectionFailed    nobody answers at the address
    +-- Timeout                 no answer within `timeout` seconds
    +-- Overloaded              the server's queues are full; retried before it is raised
    +-- MessageTooLarge         a request or a reply is larger than one side takes
    +-- InvalidRequest          an argument can't be used; the same call will fail again
    +-- NotFound                no such model, collection, head or row
    +-- FailedPrecondition      right in itself, wrong in this state
    |   +-- SpaceMismatch       vectors of two spaces would meet
    +-- Unauthenticated         no credentials, or wrong ones
    |   +-- PermissionDenied    good credentials that don't allow this
    +-- Cancelled               the call was ended before its answer came
    +-- Internal                a defect of the server, or a reply that breaks the contract
    |   +-- Unsupported         the server does not know this call: it is older than the client
    +-- ItemErrors              some items failed, and `raise_for_errors()` was called
    +-- MissingExtra            a package is not installed

What comes from a call is raised ``from`` gRPC's own error. One bad image raises nothing: it is an
`ItemFailure` in the result's ``errors``, and its batch-mates are served.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

    from trunkline.values import ItemFailure


class TrunklineError(Exception):
    """Base of every error that the client raises on purpose.

    Attributes:
        message: What was wrong and what to do.
        reason: A stable word for programs, e.g. ``"model_not_found"``; the server's, where it sent one.
        code: The gRPC status of the call, or None where no call was made.
        items: Which items of the input the failed request carried, counted from 0; None for a call
            without items.
    """

    default_reason = "error"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: grpc.StatusCode | None = None,
        items: range | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.code = code
        self.items = items


class Unavailable(TrunklineError):
    """The server is starting or draining, or one of its stages died. Safe to try again."""

    default_reason = "unavailable"


class ConnectionFailed(Unavailable):
    """Nobody answers at the address, or the connection was lost."""

    default_reason = "connection_failed"


class Timeout(TrunklineError):
    """No answer within the time that the call was given."""

    default_reason = "deadline_expired"


class Overloaded(TrunklineError):
    """The server's queues are full, and stayed so for all retries. Nothing was done."""

    default_reason = "overloaded"


class MessageTooLarge(TrunklineError):
    """A request or a reply is larger than one side, or something between them, takes."""

    default_reason = "message_too_large"


class InvalidRequest(TrunklineError):
    """An argument can't be used; the same call will fail again."""

    default_reason = "invalid_argument"


class NotFound(TrunklineError):
    """No model, collection, head or row of this name."""

    default_reason = "not_found"


class FailedPrecondition(TrunklineError):
    """Right in itself, wrong in the state that the server is in."""

    default_reason = "failed_precondition"


class SpaceMismatch(FailedPrecondition):
    """Vectors of two spaces would meet; the message names both."""

    default_reason = "space_mismatch"


class Unauthenticated(TrunklineError):
    """The server wants credentials, or does not accept these."""

    default_reason = "unauthenticated"


class PermissionDenied(Unauthenticated):
    """The credentials are good but don't allow this call."""

    default_reason = "permission_denied"


class Cancelled(TrunklineError):
    """The call was ended, here or by the server, before its answer came."""

    default_reason = "cancelled"


class Internal(TrunklineError):
    """A defect of the server, or a reply that breaks the contract."""

    default_reason = "internal"


class Unsupported(Internal):
    """The server does not know this call."""

    default_reason = "unimplemented"


class ItemErrors(TrunklineError):
    """Some items of a call failed; raised by ``result.raise_for_errors()`` alone.

    Attributes:
        failures: All of them, by rising index.
    """

    default_reason = "item_errors"
    SHOWN = 3

    def __init__(self, failures: Sequence[ItemFailure], total: int) -> None:
        shown = "; ".join(str(failure) for failure in failures[: self.SHOWN])
        more = len(failures) - self.SHOWN
        rest = f"; and {more} more" if more > 0 else ""
        super().__init__(f"{len(failures)} of {total} items failed: {shown}{rest}")
        self.failures = list(failures)


class MissingExtra(TrunklineError):
    """A package that this call needs is not installed; the message says how to install it."""

    default_reason = "missing_extra"
