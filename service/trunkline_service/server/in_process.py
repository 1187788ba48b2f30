"""A gRPC channel without a network: the client's surface over a workspace in this process.

`trunkline.open(models=, data=)` finds `open_channel` through the entry point ``trunkline.local``. The same
servicers, converters and status table answer as over a socket, so answers and errors are the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc

from trunkline_service import settings as settings_module
from trunkline_service.errors import InternalError, TrunklineError
from trunkline_service.server import services
from trunkline_service.server.status import details_of, metadata_of, status_of
from trunkline_service.workspace import Workspace

_log = logging.getLogger(__name__)


def open_channel(models: str | None = None, data: str | None = None, **flags: Any) -> InProcessChannel:
    """Opens a workspace behind a channel.

    Args:
        models: Folder of the model repository.
        data: Folder of collections and heads.
        **flags: Other settings by their names; see ``Settings``.

    Raises:
        SettingsError: A setting that does not exist or can't be used.
    """
    return InProcessChannel(Workspace(settings_module.load({"models": models, "data": data, **flags})))


class InProcessError(grpc.RpcError):
    """A call that failed, with what a client reads of a failed call."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, str]]) -> None:
        super().__init__(details)
        self._code = code
        self._details = details
        self._metadata = tuple(metadata)

    def code(self) -> grpc.StatusCode:
        """The status."""
        return self._code

    def details(self) -> str:
        """The message."""
        return self._details

    def trailing_metadata(self) -> Any:
        """Reason and retry hint."""
        return self._metadata


class _Context:
    """What servicers ask of a call's context."""

    def __init__(self, timeout: float | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._callbacks: list[Callable[[], None]] = []

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._callbacks.append(callback)
        return True

    def end(self) -> None:
        """Tells who wants to know that nobody waits for the answer any more."""
        for callback in self._callbacks:
            callback()


@contextmanager
def _translated(method: str) -> Iterator[None]:
    """Errors as a client reads them."""
    try:
        yield
    except TrunklineError as error:
        raise InProcessError(status_of(error), details_of(error), metadata_of(error)) from error
    except Exception as error:
        _log.exception("%s failed", method)
        hidden = InternalError()
        raise InProcessError(status_of(hidden), hidden.message, metadata_of(hidden)) from error


class _Call:
    """One method of the channel."""

    def __init__(self, method: str, behaviour: Callable[..., Any], pool: futures.Executor) -> None:
        self._method = method
        self._behaviour = behaviour
        self._pool = pool

    def __call__(self, request: Any, timeout: float | None = None, **_options: Any) -> Any:
        with _translated(self._method):
            return self._behaviour(request, _Context(timeout))

    def future(self, request: Any, timeout: float | None = None, **_options: Any) -> futures.Future[Any]:
        return self._pool.submit(self, request, timeout)


class _Stream:
    """The replies of one call, made as they are asked for, in the thread that asks."""

    def __init__(self, method: str, replies: Callable[[], Iterator[Any]], context: _Context) -> None:
        self._method = method
        self._replies = self._translated(replies)
        self._context = context
        self._cancelled = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._cancelled:
            self._close()
            raise InProcessError(grpc.StatusCode.CANCELLED, "the call was cancelled", ())
        if self._context.time_remaining() == 0.0:
            self._close()
            raise InProcessError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", ())
        return next(self._replies)

    def cancel(self) -> None:
        """Ends the stream before its next reply; safe in any thread."""
        self._cancelled = True
        self._context.end()

    def _close(self) -> None:
        self._context.end()
        self._replies.close()

    def _translated(self, replies: Callable[[], Iterator[Any]]) -> Generator[Any, None, None]:
        with _translated(self._method):
            yield from replies()


class _Handlers:
    """Takes the servicers' handlers as a grpc.Server would."""

    def __init__(self) -> None:
        self.by_method: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """The registered methods below say the same."""

    def add_registered_method_handlers(
        self, service: str, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        self.by_method |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


class InProcessChannel(grpc.Channel):
    """A channel whose other end is in this process."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        handlers = _Handlers()
        services.register(handlers, workspace)  # type: ignore[arg-type]
        self._handlers = handlers.by_method
        self._pool = futures.ThreadPoolExecutor(8, thread_name_prefix="in-process")

    def unary_unary(self, method: str, *_serializers: Any, **_options: Any) -> Any:
        """Requests and responses pass as objects; nothing is serialised."""
        handler = self._handlers.get(method)
        if handler is None or handler.unary_unary is None:
            raise ValueError(f"no method {method}")
        return _Call(method, handler.unary_unary, self._pool)

    def close(self) -> None:
        """Finishes what is under way and closes the workspace."""
        self._pool.shutdown()
        self.workspace.close()

    def subscribe(self, callback: Callable[[Any], None], try_to_connect: bool | None = False) -> None:
        """It is ready at once."""
        callback(grpc.ChannelConnectivity.READY)

    def unsubscribe(self, callback: Callable[[Any], None]) -> None:
        """Nothing changes, so nothing is reported."""

    def unary_stream(self, method: str, *_serializers: Any, **_options: Any) -> Any:
        """As `unary_unary`; the replies are made as they are asked for."""
        handler = self._handlers.get(method)
        if handler is None or handler.unary_stream is None:
            raise ValueError(f"no method {method}")
        behaviour: Callable[..., Any] = handler.unary_stream

        def call(request: Any, timeout: float | None = None, **_options: Any) -> _Stream:
            context = _Context(timeout)
            return _Stream(method, lambda: behaviour(request, context), context)

        return call

    def stream_unary(self, method: str, *_args: Any, **_options: Any) -> NoReturn:
        """No method takes a stream."""
        raise ValueError(f"{method}: Trunkline has no methods that take streams")

    stream_stream = stream_unary

    def __enter__(self) -> InProcessChannel:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool | None:
        self.close()
        return None
