"""Where calls arrive: a gRPC server with its gate, its health and its port; whatever stands behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1.health import SERVICE_NAME
from grpc_reflection.v1alpha import reflection

from trunkline_service.errors import SettingsError
from trunkline_service.server.health import Health
from trunkline_service.server.interceptors import Gate
from trunkline_service.server.listening import TlsFiles
from trunkline_service.settings import Settings

# A waiting call holds a thread, which is cheap; these bound how many can wait at once.
_WORK_CALLS = 128
_LIGHT_CALLS = 32
# What gRPC holds back before it refuses by itself. Far above the threads: calls beyond the work bound are
# answered with a retry hint within a millisecond, and health checks must get through among them.
_HELD_CALLS = 2048
_LINGER_S = 1.0
# Calls that have arrived and were not looked at yet would end as if their callers had cancelled them. So the
# server goes on to take calls, in order to refuse them, until none came for a moment; though not for ever. The
# thread that looks at calls also puts large requests together: where there was work the moment is longer.
_QUIET_S, _QUIET_AFTER_WORK_S, _REFUSING_S = 0.05, 0.25, 1.0


class Endpoint:
    """A gRPC server that takes work when it is told to, and drains.

    Args:
        settings: How large messages may be, how long connections live.
        names: Of the services that it will have.
        interceptor: Makes what stands around every call, from the gate of the endpoint.
        shared: Whether other processes listen on the same port.
        aside: Gates of work that has bounds of its own; they are closed and drained as the endpoint's own is.
        aside_calls: How many calls at once, beyond the endpoint's own, are to have threads.
        clock: Monotonic seconds.

    Attributes:
        gate: Whether work is taken.
        server: Takes handlers until it is started.
    """

    def __init__(
        self,
        settings: Settings,
        names: Sequence[str],
        interceptor: Callable[[Gate], grpc.ServerInterceptor],
        *,
        shared: bool = False,
        aside: Sequence[Gate] = (),
        aside_calls: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gate = Gate(_WORK_CALLS)
        self._gates = (self.gate, *aside)
        self._clock = clock
        self._names = tuple(names)
        self._health = Health(self._names)
        self._arrivals = Arrivals()
        interceptors = [self._arrivals, interceptor(self.gate)]
        self.server = _build(settings, interceptors, shared, _WORK_CALLS + _LIGHT_CALLS + aside_calls)
        self._health.register(self.server)
        reflection.enable_server_reflection(
            (*self._names, SERVICE_NAME, reflection.SERVICE_NAME), self.server
        )

    def bind(self, target: str, tls: TlsFiles | None = None) -> int:
        """Takes an address; returns its port (0 for the path of a socket).

        Args:
            target: ``host:port``, or ``unix:`` with a path.
            tls: Encrypts what goes over it.

        Raises:
            SettingsError: The address is taken or can't be had; the TLS files can't be used.
        """
        open_port: Callable[[], int]
        if tls is None:
            open_port = lambda: self.server.add_insecure_port(target)  # noqa: E731
        else:
            credentials = grpc.ssl_server_credentials([tls.read()])
            open_port = lambda: self.server.add_secure_port(target, credentials)  # noqa: E731
        try:
            port = open_port()
        except RuntimeError as exc:
            raise SettingsError(f"can't listen on {target}: {exc}; is another server there?") from exc
        if not port:
            raise SettingsError(f"can't listen on {target}; is another server there?")
        return port

    def start(self) -> None:
        """Listens. Work is refused until the gate is opened."""
        self.server.start()

    def set_health(self, serving: Mapping[str, bool]) -> None:
        """Says how the services are.

        Args:
            serving: By the name of the service, "" for the whole; those that are not named do not serve.
        """
        self._health.set(serving)

    def serve_all(self, healthy: bool) -> None:
        """Says that all services are well, or that none is."""
        self._health.set(dict.fromkeys(("", *self._names), healthy))

    def turn_away(self) -> None:
        """Takes no more work, and says NOT_SERVING from here on, whatever `set_health` is told."""
        self._health.end()
        for gate in self._gates:
            gate.close("the server is shutting down")

    def drain(self, drain_s: float) -> None:
        """Finishes what was taken within ``drain_s`` seconds, then lets the port go."""
        until = self._clock() + drain_s
        quiet_s = _QUIET_S if all(gate.is_empty for gate in self._gates) else _QUIET_AFTER_WORK_S
        for gate in self._gates:
            gate.wait_empty(max(0.0, until - self._clock()))
        # Callers that try again at once would never let it be quiet, so they are told only when they know that
        # their connections end.
        for gate in self._gates:
            gate.hold()
        try:
            self._arrivals.wait_for_quiet(quiet_s, _REFUSING_S, self._clock)
            stopped = self.server.stop(_LINGER_S)
        finally:
            for gate in self._gates:
                gate.release()
            self._health.dismiss()
        # What is left now are requests that are still being sent and the last bytes of replies.
        stopped.wait()
        self._health.close()


class Arrivals(grpc.ServerInterceptor):
    """Notices calls that arrive, and leaves them as they are."""

    def __init__(self) -> None:
        self.came = threading.Event()

    def wait_for_quiet(self, quiet_s: float, most_s: float, clock: Callable[[], float]) -> None:
        """Waits until no call came for ``quiet_s`` seconds, ``most_s`` seconds at most."""
        until = clock() + most_s
        self.came.clear()
        while self.came.wait(quiet_s) and clock() < until:
            self.came.clear()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See grpc.ServerInterceptor."""
        self.came.set()
        return continuation(handler_call_details)


def _build(
    settings: Settings, interceptors: list[grpc.ServerInterceptor], shared: bool, threads: int
) -> grpc.Server:
    return grpc.server(
        futures.ThreadPoolExecutor(threads, thread_name_prefix="call"),
        interceptors=interceptors,
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            # Two servers on one port would split the calls between them without anybody noticing.
            ("grpc.so_reuseport", int(shared)),
            *_ages(settings),
        ],
        maximum_concurrent_rpcs=_HELD_CALLS,
    )


def _ages(settings: Settings) -> list[tuple[str, int]]:
    """When clients are asked to connect anew; the calls under way have the time of a drain."""
    if not settings.max_connection_age_s:
        return []
    return [
        ("grpc.max_connection_age_ms", round(settings.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", round(settings.drain_s * 1000)),
    ]
