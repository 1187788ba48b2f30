"""A failed call -> what it means: which exception, and whether another attempt is safe.

Every call of the contract may be repeated, and ends in the same state:

- Reads change nothing. A scan is begun again only before its first batch.
- Add and Upsert write rows by their id (the content's hash where the caller of Add gave none), so
  that a second write makes no second row.
- CreateCollection answers with the collection that is there, if that is equal and still empty.
- Relabel, DeleteRows, Purge and Compact find done what a lost attempt did; their counts are those of
  the last attempt.
- SetTag and SetAlias set the same again. A tag of "the latest" names what is the latest by then.
- Restore makes one more version of the same rows. What others wrote between two attempts is in a
  version of its own, as if they had come before the one restore.
- Promote, SetShadow and a head's SetAlias set the same again; Rollback names the version that is to
  serve no more, and does nothing where it serves no more.
- Fit and Migrate end with the call that asked for them; they are begun again only before their first
  message.
- DropCollection, DeleteTag, DeleteHead and DeleteAlias find nothing after a lost attempt that succeeded, and raise
  NotFound, with "(after N attempts)" in its message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from trunkline import exceptions as errors

REASON_KEY = "trunkline-reason"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
# What grpcio's own server says when `maximum_concurrent_rpcs` is reached; it sends no pushback.
CONCURRENCY_REFUSAL = "Concurrent RPC limit exceeded"
# gRPC core's words on both sides: "Received message larger than max", "Sent message larger than max".
SIZE_REFUSAL = "message larger than max"

_KINDS: Mapping[grpc.StatusCode, type[errors.TrunklineError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Timeout,
    grpc.StatusCode.CANCELLED: errors.Cancelled,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class Refusal:
    """A call that failed.

    Attributes:
        kind: The exception that it becomes if it is not retried.
        message: What was wrong and what to do.
        reason: The server's word for it; empty where the server did not say.
        code: The status.
        retryable: Whether another attempt is safe and has a chance.
        pushback_s: Seconds that the server asked to be left alone for.
    """

    kind: type[errors.TrunklineError]
    message: str
    reason: str
    code: grpc.StatusCode
    retryable: bool = False
    pushback_s: float = 0.0


def code_of(number: int) -> grpc.StatusCode:
    """The status of a google.rpc.Code number; UNKNOWN for a number that is none."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def read(error: Any, target: str) -> Refusal:
    """What a failed call means.

    Args:
        error: A `grpc.RpcError`. All that are raised have ``code()``, ``details()`` and
            ``trailing_metadata()``, though the class itself declares none of them.
        target: The server's address, for the message.
    """
    code = error.code() or grpc.StatusCode.UNKNOWN
    details = error.details() or ""
    trailing = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, str)}
    reason = trailing.get(REASON_KEY, "")
    pushback_s = _pushback(trailing.get(PUSHBACK_KEY))
    kind = _kind(code, details, reason, pushback_s)
    if code is grpc.StatusCode.UNAVAILABLE:
        # A server that is draining may say that it will not be back: a negative pushback, by gRFC A6.
        retryable = pushback_s is None or pushback_s >= 0
    else:
        by_load = pushback_s is not None or CONCURRENCY_REFUSAL in details
        retryable = kind is errors.Overloaded and by_load and (pushback_s or 0.0) >= 0
    return Refusal(
        kind, _message(kind, details, target), reason, code, retryable, max(pushback_s or 0.0, 0.0)
    )


def _kind(
    code: grpc.StatusCode, details: str, reason: str, pushback_s: float | None
) -> type[errors.TrunklineError]:
    if code is grpc.StatusCode.FAILED_PRECONDITION and reason == errors.SpaceMismatch.default_reason:
        return errors.SpaceMismatch
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and pushback_s is None and SIZE_REFUSAL in details:
        return errors.MessageTooLarge
    if code is grpc.StatusCode.UNAVAILABLE and not reason:
        return errors.ConnectionFailed
    return _KINDS.get(code, errors.Internal)


def _message(kind: type[errors.TrunklineError], details: str, target: str) -> str:
    if kind is errors.ConnectionFailed:
        hint = "is the server running there (trunkline serve), and do both sides use TLS, or neither?"
        return f"no connection to {target}: {hint} ({details})"
    if kind is errors.MessageTooLarge:
        return f"{details}; lower chunk_bytes= or chunk_images= so that requests and replies are smaller"
    if kind is errors.Unsupported:
        return f"the server at {target} does not know this call; it is older than this client ({details})"
    if kind is errors.Internal:
        return f"the server at {target} failed: {details}"
    return details or f"{kind.default_reason} (the server gave no message)"


def _pushback(value: str | None) -> float | None:
    """Seconds; negative for "don't retry", which by gRFC A6 is also what an unreadable value means."""
    if value is None:
        return None
    try:
        return int(value) / 1000
    except ValueError:
        return -1.0
