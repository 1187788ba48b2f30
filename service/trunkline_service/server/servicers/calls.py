"""What every servicer needs of a call."""

from __future__ import annotations

import threading

import grpc

from trunkline_protos.v1 import common_pb2
from trunkline_service.batching.engine import Caller
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
