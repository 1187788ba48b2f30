"""What every servicer needs of a call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from trunkline_protos.v1 import common_pb2
from trunkline_service.batching.engine import Caller
from trunkline_service.errors import Cancelled, DeadlineExpired
from trunkline_service.server.converters import lane_from


def caller_of(context: grpc.ServicerContext, lane: common_pb2.Lane) -> Caller:
    """Lane, deadline and cancellation of a call, for the engine."""
    remaining: float | None = context.time_remaining()
    # Without a deadline gRPC gives a number that no lock can wait for.
    if remaining is not None and remaining > threading.TIMEOUT_MAX:
        remaining = None

    def on_cancel(cancel: object) -> None:
        assert callable(cancel)
        # False: the call has ended already, and the function will not be called.
        if not context.add_callback(cancel):
            cancel()

    return Caller(lane_from(lane), remaining, on_cancel)


@contextmanager
def called_off(context: grpc.ServicerContext) -> Iterator[Callable[[], bool]]:
    """Tells work whether anybody still waits for it: not after the call was cancelled, or its time ran out.

    Raises:
        DeadlineExpired: Instead of ``Cancelled``, where the time ran out.
    """
    gone = threading.Event()
    # False: the call has ended already, and the function will not be called.
    if not context.add_callback(gone.set):
        gone.set()

    def is_late() -> bool:
        return context.time_remaining() == 0.0

    try:
        yield lambda: gone.is_set() or is_late()
    except Cancelled as exc:
        if not is_late():
            raise
        raise DeadlineExpired("the call's time ran out; nothing was answered") from exc
