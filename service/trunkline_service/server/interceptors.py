"""Around every call: translation of errors, the gate before readiness, a bound on calls, metrics."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from trunkline_service.errors import InternalError, InvalidArgument, Overloaded, TrunklineError, Unavailable
from trunkline_service.server.status import details_of, metadata_of, status_of

_log = logging.getLogger(__name__)
_RETRY_AFTER_S = 0.2
# For those who are refused because the server ends: long enough that they do not come again and again, and
# shorter than most callers are ready to wait, so that they read why and go elsewhere.
_HOLD_S = 0.5


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

    Args:
        most: Calls at once.
        advice: What else a caller who is refused can do than to try again.
    """

    def __init__(self, most: int, advice: str = "send more images in each call") -> None:
        self._most = most
        self._advice = advice
        self._inside = 0
        self._changed = threading.Condition()
        self._held = False
        self._closed: str | None = "the server is starting: its models are not warm yet"

    @property
    def is_open(self) -> bool:
        """Whether work is taken."""
        return self._closed is None

    @property
    def is_empty(self) -> bool:
        """Whether no work is under way."""
        return self._inside == 0

    def open(self) -> None:
        """Takes work from now on."""
        self._closed = None

    def close(self, why: str) -> None:
        """Refuses work from now on."""
        self._closed = why

    def hold(self) -> None:
        """Keeps those who are refused waiting until `release`: told at once, they would come again at once."""
        with self._changed:
            self._held = True

    def release(self) -> None:
        """Refuses those who wait."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

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
                self._changed.wait_for(lambda: not self._held, _HOLD_S)
                raise Unavailable(f"{self._closed}; try again, or send the request to another server")
            if self._inside == self._most:
                raise Overloaded(
                    f"{self._most} calls are under way and no more are taken; try again in "
                    f"{_RETRY_AFTER_S} s, or {self._advice}",
                    retry_after_s=_RETRY_AFTER_S,
                )
            self._inside += 1

    def leave(self) -> None:
        """Counts a call out."""
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()


# Trunkline's own, and Open Inference's.
_PACKAGES = ("/trunkline.", "/inference.")

# Listings cost nothing, and must be answered while the work waits; so must a rollback. What reads vectors
# is work.
LIGHT = frozenset(
    {
        "/inference.GRPCInferenceService/ModelConfig",
        "/inference.GRPCInferenceService/ModelMetadata",
        "/inference.GRPCInferenceService/ModelReady",
        "/inference.GRPCInferenceService/RepositoryIndex",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerMetadata",
        "/inference.GRPCInferenceService/ServerReady",
        "/trunkline.v1.Collections/GetCollection",
        "/trunkline.v1.Collections/ListAliases",
        "/trunkline.v1.Collections/ListCollections",
        "/trunkline.v1.Collections/ListVersions",
        "/trunkline.v1.Heads/DeleteAlias",
        "/trunkline.v1.Heads/DeleteHead",
        "/trunkline.v1.Heads/GetHead",
        "/trunkline.v1.Heads/GetReport",
        "/trunkline.v1.Heads/ListHeads",
        "/trunkline.v1.Heads/Promote",
        "/trunkline.v1.Heads/Rollback",
        "/trunkline.v1.Heads/SetAlias",
        "/trunkline.v1.Heads/SetShadow",
        "/trunkline.v1.Models/GetModel",
        "/trunkline.v1.Models/GetServerInfo",
        "/trunkline.v1.Models/ListModels",
    }
)


class CallInterceptor(grpc.ServerInterceptor):
    """Wraps the handlers of the services that use the workspace; leaves health and reflection alone."""

    def __init__(self, gate: Gate, observer: CallObserver) -> None:
        self._gate = gate
        self._observer = observer
        # Handlers are the same for every call of a method; wrapping one costs more than a small call.
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See grpc.ServerInterceptor."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler = continuation(handler_call_details)
        if handler is None or not method.startswith(_PACKAGES):
            return handler
        wrapped = self._wrapped[method] = self._guarded(handler, method)
        return wrapped

    def _guarded(
        self, handler: grpc.RpcMethodHandler[Any, Any], method: str
    ) -> grpc.RpcMethodHandler[Any, Any]:
        # The request is parsed inside the gate, so that what is refused costs no parsing.
        parse, serialise = handler.request_deserializer, handler.response_serializer
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._wrap(handler.unary_unary, parse, method), response_serializer=serialise
            )
        assert handler.unary_stream is not None, f"{method} takes a stream, which nothing here guards"
        return grpc.unary_stream_rpc_method_handler(
            self._wrap_stream(handler.unary_stream, parse, method), response_serializer=serialise
        )

    def _wrap(
        self, behaviour: Callable[..., Any], parse: Callable[[bytes], Any] | None, method: str
    ) -> Callable[..., Any]:
        def call(data: bytes, context: grpc.ServicerContext) -> Any:
            with self._around(method, context):
                return behaviour(_parsed(parse, data), context)

        return call

    def _wrap_stream(
        self, behaviour: Callable[..., Any], parse: Callable[[bytes], Any] | None, method: str
    ) -> Callable[..., Any]:
        def stream(data: bytes, context: grpc.ServicerContext) -> Iterator[Any]:
            # gRPC drops the generator of a call that was cancelled, which closes it: the gate is left.
            with self._around(method, context):
                yield from behaviour(_parsed(parse, data), context)

        return stream

    def _around(self, method: str, context: grpc.ServicerContext) -> _Around:
        return _Around(method, context, None if method in LIGHT else self._gate, self._observer)


class _Around:
    """The gate before a call, and behind it the translation of its error and its metrics.

    Not a generator with a decorator, which costs three times as much, in every call.
    """

    def __init__(
        self, method: str, context: grpc.ServicerContext, gate: Gate | None, observer: CallObserver
    ) -> None:
        self._method = method
        self._context = context
        self._gate = gate
        self._observer = observer
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()
        if self._gate is None:
            return
        try:
            self._gate.enter()
        except TrunklineError as error:
            self._gate = None
            self._end(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gate is not None:
            self._gate.leave()
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Tells the observer, and the caller what went wrong, if anything."""
        shown: TrunklineError | None = None
        code = grpc.StatusCode.OK
        if isinstance(error, TrunklineError):
            shown, code = error, status_of(error)
        elif isinstance(error, GeneratorExit):
            code = grpc.StatusCode.CANCELLED
        elif isinstance(error, Exception):
            # Whatever it is, it is ours: logged here, hidden from callers.
            _log.error("%s failed", self._method, exc_info=error)
            shown, code = InternalError(), grpc.StatusCode.INTERNAL
        self._observer.call(self._method, code.name, time.perf_counter() - self._started)
        if shown is not None:
            fail(self._context, shown)
