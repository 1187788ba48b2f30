"""grpc.health.v1.Health: how the services are, for those who ask and those who watch."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
# Each holds a thread, which waits. They are not the threads of the other calls.
_WATCHERS = 512


class Health(health_pb2_grpc.HealthServicer):
    """The servicer. In the beginning nothing serves.

    gRPC's own holds its lock while it sends: when one watcher goes away just then, the thread that serves all
    calls waits for the lock, and the lock for that thread.

    Args:
        names: Of the services; "" stands for the whole server.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._changed = threading.Condition()
        self._statuses: dict[str, Any] = dict.fromkeys(("", *names), _NOT_SERVING)
        self._over = self._dismissed = False
        self._watchers = ThreadPoolExecutor(_WATCHERS, thread_name_prefix="watch")

    def register(self, server: grpc.Server) -> None:
        """Adds it to a server."""

        # gRPC runs a behaviour that has a pool in that one.
        def watch(
            request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
        ) -> Iterator[health_pb2.HealthCheckResponse]:
            return self._watch(request.service, context)

        watch.experimental_thread_pool = self._watchers  # type: ignore[attr-defined]
        self.Watch = watch  # type: ignore[method-assign]
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def set(self, serving: Mapping[str, bool]) -> None:
        """Says how the services are; those that are not named do not serve."""
        with self._changed:
            if self._over:
                return
            for name in self._statuses:
                self._statuses[name] = _SERVING if serving.get(name, False) else _NOT_SERVING
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing serves from here on, whatever `set` is told."""
        self.set({})
        with self._changed:
            self._over = True

    def dismiss(self) -> None:
        """Ends what watchers read; the server would wait for them."""
        with self._changed:
            self._dismissed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Takes no more watchers; the server was stopped."""
        self._watchers.shutdown(wait=False)

    def Check(  # noqa: N802 - gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """See health.proto."""
        with self._changed:
            status = self._statuses.get(request.service)
        if status is None:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            return health_pb2.HealthCheckResponse()
        return health_pb2.HealthCheckResponse(status=status)

    def _watch(self, service: str, context: grpc.ServicerContext) -> Iterator[health_pb2.HealthCheckResponse]:
        """The status, and each one that differs from what was told last."""
        told: Any = None

        def news() -> bool:
            return self._dismissed or not context.is_active() or self._statuses.get(service, _UNKNOWN) != told

        # False: the call has ended already, and the function will not be called.
        if not context.add_callback(self._wake):
            return
        while True:
            with self._changed:
                self._changed.wait_for(news)
                status = self._statuses.get(service, _UNKNOWN)
            if not context.is_active():
                return
            if status != told:
                told = status
                yield health_pb2.HealthCheckResponse(status=status)
            elif self._dismissed:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
