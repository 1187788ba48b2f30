"""Passes calls on to another server as they are: bytes in, bytes out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc

from trunkline_service.errors import TrunklineError, Unavailable
from trunkline_service.server.interceptors import LIGHT, CallObserver, Gate, fail
from trunkline_service.server.status import PUSHBACK_KEY, REASON_KEY, metadata_of, status_of

# gRPC's own; it writes them anew for the second way.
_OWN_KEYS = frozenset({"user-agent", "content-type", "te"})
_OWN_PREFIXES = ("grpc-", ":")
_RETRY_MS = 500
Metadata = tuple[tuple[str, str | bytes], ...]


class Proxy:
    """The methods of other servers' services, as handlers of this one.

    Deadline, cancellation, metadata, status and trailing metadata pass both ways; streams pass one message
    at a time, as fast as the caller reads them.

    Args:
        channel: To the other server.
        gate: Whether work is taken, and how much at once.
        light: How many of the others, that are answered quickly, are passed on at once: where the other server
            hangs, they must not take the threads of calls that are answered here.
        observer: Told of every finished call.
        away: What callers read while the other server can't be reached.
    """

    def __init__(
        self, channel: grpc.Channel, gate: Gate, light: Gate, observer: CallObserver, away: str
    ) -> None:
        self._channel = channel
        self._gate = gate
        self._light = light
        self._observer = observer
        self._away = away
        self._trouble: str | None = None

    def know(self, trouble: str | None) -> None:
        """Told how the other server is; where it is in trouble, calls that begin are refused at once."""
        self._trouble = trouble

    def handlers(self, service: str, streams: Mapping[str, bool]) -> grpc.GenericRpcHandler:
        """Handlers for the methods of one service.

        Args:
            service: Its full name.
            streams: By the name of the method, whether it answers with a stream.
        """
        made = {
            name: self._stream(f"/{service}/{name}") if is_stream else self._unary(f"/{service}/{name}")
            for name, is_stream in streams.items()
        }
        return grpc.method_handlers_generic_handler(service, made)

    def _unary(self, method: str) -> grpc.RpcMethodHandler[bytes, bytes]:
        begin: Any = self._channel.unary_unary(method)

        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            with self._around(method, context) as passing:
                under_way = passing.begin(lambda **options: begin.future(request, **options))
                answer: bytes = under_way.result()
                passing.headers(under_way)
                passing.trailers(under_way)
                return answer

        return grpc.unary_unary_rpc_method_handler(call)

    def _stream(self, method: str) -> grpc.RpcMethodHandler[bytes, bytes]:
        begin: Any = self._channel.unary_stream(method)

        def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            with self._around(method, context) as passing:
                replies = passing.begin(lambda **options: begin(request, **options))
                passing.headers(replies)
                yield from replies
                passing.trailers(replies)

        return grpc.unary_stream_rpc_method_handler(stream)

    @contextmanager
    def _around(self, method: str, context: grpc.ServicerContext) -> Iterator[_Passing]:
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        passing = _Passing(context, self._away)
        try:
            if (trouble := self._trouble) is not None:
                code = grpc.StatusCode.UNAVAILABLE
                passing.refuse(f"{self._away} ({trouble})")
            with self._admitted(method):
                yield passing
        except GeneratorExit:
            code = grpc.StatusCode.CANCELLED
            raise
        except TrunklineError as error:
            code = status_of(error)
            fail(context, error)
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            code = passing.code(error)
            passing.fail(error)
        finally:
            # A caller who went away in the middle of a stream leaves it open.
            passing.cancel()
            self._observer.call(method, code.name, time.perf_counter() - started)

    @contextmanager
    def _admitted(self, method: str) -> Iterator[None]:
        gate = self._light if method in LIGHT else self._gate
        gate.enter()
        try:
            yield
        finally:
            gate.leave()


class _Passing:
    """One call on its way."""

    def __init__(self, context: grpc.ServicerContext, away: str) -> None:
        self._context = context
        self._away = away
        self._call: Any = None

    def begin(self, call: Callable[..., Any]) -> Any:
        """Begins the second half of the call, with the time and the metadata of the first."""
        remaining: float | None = self._context.time_remaining()
        # Without a deadline gRPC gives a number that no lock can wait for.
        if remaining is not None and remaining > threading.TIMEOUT_MAX:
            remaining = None
        metadata = _passed_on(self._context.invocation_metadata())
        self._call = call(timeout=remaining, metadata=metadata)
        # False: the first half has ended already, and the function will not be called.
        if not self._context.add_callback(self._call.cancel):
            self._call.cancel()
        return self._call

    def cancel(self) -> None:
        """Ends what is left of the call; nothing where it has ended."""
        if self._call is not None:
            self._call.cancel()

    def headers(self, call: Any) -> None:
        """Passes on what the other server said before its answer."""
        metadata = _passed_on(call.initial_metadata())
        if metadata:
            self._context.send_initial_metadata(metadata)

    def trailers(self, call: Any) -> None:
        """Passes on what it said after its answer."""
        self._context.set_trailing_metadata(tuple(call.trailing_metadata() or ()))

    def code(self, error: Any) -> grpc.StatusCode:
        """The status of a call that failed."""
        if isinstance(error, grpc.FutureCancelledError):
            return grpc.StatusCode.CANCELLED
        code: grpc.StatusCode = error.code()
        return code

    def fail(self, error: Any) -> NoReturn:
        """Ends the first half of the call as the second one ended."""
        code = self.code(error)
        if isinstance(error, grpc.FutureCancelledError):
            self._context.abort(code, "the call was cancelled")
        trailing: Metadata = tuple(error.trailing_metadata() or ())
        if code is grpc.StatusCode.UNAVAILABLE and REASON_KEY not in dict(trailing):
            # Not the other server says so, but the way to it: nobody is there.
            self.refuse(self._away)
        self._context.set_trailing_metadata(trailing)
        self._context.abort(code, error.details() or "")
        raise AssertionError("abort returns never")

    def refuse(self, why: str) -> NoReturn:
        """Ends the call where there is nobody to pass it on to."""
        away = Unavailable(why)
        self._context.set_trailing_metadata((*metadata_of(away), (PUSHBACK_KEY, str(_RETRY_MS))))
        self._context.abort(grpc.StatusCode.UNAVAILABLE, away.message)
        raise AssertionError("abort returns never")


class ProxyInterceptor(grpc.ServerInterceptor):
    """Leaves the calls of some services as they are, and everything else to another interceptor.

    Args:
        inner: For the services that are answered here.
        passed: Full names of those that are passed on.
    """

    def __init__(self, inner: grpc.ServerInterceptor, passed: Sequence[str]) -> None:
        self._inner = inner
        self._prefixes = tuple(f"/{name}/" for name in passed)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See grpc.ServerInterceptor."""
        if handler_call_details.method.startswith(self._prefixes):
            return continuation(handler_call_details)
        return self._inner.intercept_service(continuation, handler_call_details)


def _passed_on(metadata: Any) -> Metadata:
    return tuple(
        (key, value)
        for key, value in metadata or ()
        if key not in _OWN_KEYS and not key.startswith(_OWN_PREFIXES)
    )
