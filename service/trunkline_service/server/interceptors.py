"""Around every call: translation of errors, the gate before readiness, a bound on calls, metrics."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from trunkline_service.errors import InternalError, InvalidArgument, Overloaded, TrunklineError, Unavailable
from trunkline_service.server.status import details_of, metadata_of, status_of

_log = logging.getLogger(__name__)
_RETRY_AFTER_S = 0.2


class CallObserver(Protocol):
    """Told of every finished call."""

    def call(self, method: str, code: str, seconds: float) -> None:
        """``method`` is ``/package.Service/Method``."""


def _parsed(parse: Callable[[bytes], Any] | None, data: bytes) -> Any:
    if parse is None:
        return data
    try:
        return parse(data)
    except DecodeError as exc:
        raise InvalidArgument("the request is no message of this method; generate the client again") from exc


def fail(context: grpc.ServicerContext, error: TrunklineError) -> NoReturn:
    """Ends a call with an error's status, message, reason and retry hint."""
    context.set_trailing_metadata(metadata_of(error))
    context.abort(status_of(error), details_of(error))
    raise AssertionError("abort returns never")


class Gate:
    """Whether work is taken, and how much of it at once.

    Work waits in a thread of the server. Calls beyond the bound are refused at once, so that threads
    are left for health checks and listings.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        self._changed = threading.Condition()
        self._closed: str | None = "the server is starting: its models are not warm yet"

    def open(self) -> None:
        """Takes work from now on."""
        self._closed = None

    def close(self, why: str) -> None:
        """Refuses work from now on."""
        self._closed = why

    def wait_empty(self, timeout_s: float) -> bool:
        """Blocks until no work is under way; False if time ran out."""
        with self._changed:
            return self._changed.wait_for(lambda: self._inside == 0, timeout_s)

    def enter(self) -> None:
        """Counts a call in.

        Raises:
            Unavailable: Starting, or draining.
            Overloaded: Too many calls are under way.
        """
        with self._changed:
            if self._closed is not None:
                raise Unavailable(f"{self._closed}; try again, or send the request to another server")
            if self._inside == self._most:
                raise Overloaded(
                    f"{self._most} calls are under way and no more are taken; try again in "
                    f"{_RETRY_AFTER_S} s, or send more images in each call",
                    retry_after_s=_RETRY_AFTER_S,
                )
            self._inside += 1

    def leave(self) -> None:
        """Counts a call out."""
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()


class CallInterceptor(grpc.ServerInterceptor):
    """Wraps the unary handlers of Trunkline's own services; leaves health and reflection alone."""

    def __init__(self, gate: Gate, observer: CallObserver) -> None:
        self._gate = gate
        self._observer = observer

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See grpc.ServerInterceptor."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or handler.unary_unary is None or not method.startswith("/trunkline."):
            return handler
        # The request is parsed inside the gate, so that what is refused costs no parsing.
        return grpc.unary_unary_rpc_method_handler(
            self._wrap(handler.unary_unary, handler.request_deserializer, method),
            response_serializer=handler.response_serializer,
        )

    def _wrap(
        self, behaviour: Callable[..., Any], parse: Callable[[bytes], Any] | None, method: str
    ) -> Callable[..., Any]:
        # Listings cost nothing, and must be answered while the work waits.
        light = method.rpartition("/")[2].startswith(("List", "Get"))

        def answer(data: bytes, context: grpc.ServicerContext) -> Any:
            return behaviour(_parsed(parse, data), context)

        def call(data: bytes, context: grpc.ServicerContext) -> Any:
            started = time.perf_counter()
            code = grpc.StatusCode.OK
            try:
                if light:
                    return answer(data, context)
                self._gate.enter()
                try:
                    return answer(data, context)
                finally:
                    self._gate.leave()
            except TrunklineError as error:
                code = status_of(error)
                fail(context, error)
            except Exception:  # noqa: BLE001 - whatever it is, it is ours: logged here, hidden from callers
                code = grpc.StatusCode.INTERNAL
                _log.exception("%s failed", method)
                fail(context, InternalError())
            finally:
                self._observer.call(method, code.name, time.perf_counter() - started)

        return call
