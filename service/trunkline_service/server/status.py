"""One table: error -> gRPC status code. No other file decides on codes."""

from __future__ import annotations

import grpc

from trunkline_service import errors

# The first entry that an error is an instance of decides, so the special stand before the general.
STATUS: tuple[tuple[type[errors.TrunklineError], grpc.StatusCode], ...] = (
    (errors.InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.FailedPrecondition, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.SettingsError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.MissingExtra, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.DeadlineExpired, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.Cancelled, grpc.StatusCode.CANCELLED),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE),
)

_LONGEST_DETAILS = 2000

REASON_KEY = "trunkline-reason"
# gRPC's own name for it (proposal A6): milliseconds before the client should try again.
PUSHBACK_KEY = "grpc-retry-pushback-ms"


def status_of(error: errors.TrunklineError) -> grpc.StatusCode:
    """The code that a caller reads."""
    return next((code for kind, code in STATUS if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def number_of(code: grpc.StatusCode) -> int:
    """google.rpc.Code of a status."""
    number: int = code.value[0]
    return number


def details_of(error: errors.TrunklineError) -> str:
    """The message, short enough for the header it travels in (gRPC's limit is 16 KiB for all of them)."""
    text = error.message
    return text if len(text) <= _LONGEST_DETAILS else f"{text[:_LONGEST_DETAILS]} ..."


def metadata_of(error: errors.TrunklineError) -> tuple[tuple[str, str], ...]:
    """Trailing metadata that tells programs why, and when to come again."""
    metadata = [(REASON_KEY, error.reason)]
    if isinstance(error, errors.Overloaded):
        metadata.append((PUSHBACK_KEY, str(round(error.retry_after_s * 1000))))
    return tuple(metadata)
