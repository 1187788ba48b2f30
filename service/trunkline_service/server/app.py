"""The composition root: builds a server from settings, earns its health, drains it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from trunkline_service.batching.local import LocalEngine
from trunkline_service.errors import SettingsError
from trunkline_service.models.card import ModelCard
from trunkline_service.server import services
from trunkline_service.server.interceptors import CallInterceptor, Gate
from trunkline_service.server.listening import Address, TlsFiles, check_exposure, parse_address
from trunkline_service.server.metrics import Metrics, MetricsPage
from trunkline_service.settings import Settings
from trunkline_service.workspace import Workspace

_log = logging.getLogger(__name__)

# A waiting call holds a thread, which is cheap; these bound how many can wait at once.
_WORK_CALLS = 128
_LIGHT_CALLS = 32
# What gRPC holds back before it refuses by itself. Far above the threads: calls beyond the work bound are
# answered with a retry hint within a millisecond, and health checks must get through among them.
_HELD_CALLS = 2048
_HEALTH_EVERY_S = 1.0
_LINGER_S = 1.0


@dataclass(frozen=True)
class Security:
    """How the port is protected: TLS files, or an explicit wish for none."""

    tls: TlsFiles | None = None
    insecure: bool = False


class Server:
    """A gRPC server over a workspace.

    Args:
        settings: Where to listen, what to load, how much to take.
        security: TLS.

    Raises:
        SettingsError: The address is wrong, taken, or reachable from outside without TLS.
    """

    def __init__(self, settings: Settings, security: Security | None = None) -> None:
        security = security or Security()
        address = parse_address(settings.listen)
        check_exposure(address, security.tls, security.insecure)
        self.settings = settings
        self._insecure = security.insecure
        self.metrics = Metrics()
        self.workspace = Workspace(settings, observer=self.metrics)
        self._gate = Gate(_WORK_CALLS)
        self._health = health.HealthServicer()
        self._stopping = threading.Event()
        self._page: MetricsPage | None = None
        self._server = _build(settings, CallInterceptor(self._gate, self.metrics))
        services.register(self._server, self.workspace)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (*services.NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        self._set_health(False)
        self.address = Address(address.host, _bind(self._server, address, security.tls))
        self._maintainer = self.workspace.index_maintainer()
        self._watcher = threading.Thread(target=self._watch, name="health", daemon=True)

    def start(self) -> list[ModelCard]:
        """Listens, warms every bucket of every model, and only then says it is ready.

        Returns:
            The cards of the models that are warm.

        Raises:
            ModelNotFound, ModelFileError: A model can't be loaded.
            SettingsError: The metrics' address is taken; CUDA was asked for and can't be had.
        """
        self._server.start()
        self._open_metrics_page()
        cards = self.workspace.warm(self._stopping.is_set)
        if not self._stopping.is_set():
            self._gate.open()
            self._set_health(True)
            self._watcher.start()
            self._maintainer.start()
        return cards

    def interrupt(self) -> None:
        """Ends the loading of models; safe in a signal handler. ``stop`` does the rest."""
        self._stopping.set()

    def stop(self) -> None:
        """Drains: takes no more work, finishes what was admitted within ``drain_s``, lets go of all."""
        self._stopping.set()
        # A build goes on for minutes: it must not begin to end only when the calls have.
        self._maintainer.ask_to_stop()
        # Health stays NOT_SERVING from here, whatever the watcher finds.
        self._health.enter_graceful_shutdown()
        self.metrics.ready(False)
        self._gate.close("the server is shutting down")
        self._gate.wait_empty(self.settings.drain_s)
        # What is left now are watchers of health and the last bytes of replies.
        self._server.stop(_LINGER_S).wait()
        self._maintainer.stop()
        self.workspace.close()
        if self._page is not None:
            self._page.close()
        if self._watcher.ident is not None:
            self._watcher.join()

    @property
    def metrics_address(self) -> Address | None:
        """Where the metrics are, if anywhere."""
        if self._page is None:
            return None
        return Address(parse_address(self.settings.metrics_listen).host, self._page.port)

    def _open_metrics_page(self) -> None:
        engine = self.workspace.engine
        if isinstance(engine, LocalEngine):
            admission = engine.admission
            self.metrics.watch(engine.queued, lambda: admission.images, lambda: admission.bytes)
        if not self.settings.metrics_listen:
            return
        wanted = parse_address(self.settings.metrics_listen, "--metrics-listen")
        check_exposure(wanted, None, self._insecure, "--metrics-listen")
        try:
            self._page = self.metrics.serve(wanted.host, wanted.port)
        except OSError as exc:
            raise SettingsError(f"can't serve metrics on {wanted}: {exc.strerror or exc}") from exc

    def _watch(self) -> None:
        """Health is earned anew every second: a stage that died or hangs turns it off (contract 6)."""
        healthy = True
        while not self._stopping.wait(_HEALTH_EVERY_S):
            trouble = self.workspace.engine.trouble()
            if (trouble is None) != healthy:
                healthy = trouble is None
                _log.error("health: %s", trouble or "recovered")
                self._set_health(healthy)

    def _set_health(self, healthy: bool) -> None:
        status = (
            health_pb2.HealthCheckResponse.SERVING if healthy else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *services.NAMES):
            self._health.set(name, status)
        self.metrics.ready(healthy)


def _build(settings: Settings, interceptor: grpc.ServerInterceptor) -> grpc.Server:
    workers = _WORK_CALLS + _LIGHT_CALLS
    return grpc.server(
        futures.ThreadPoolExecutor(workers, thread_name_prefix="call"),
        interceptors=[interceptor],
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            # Two servers on one port would split the calls between them without anybody noticing.
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=_HELD_CALLS,
    )


def _bind(server: grpc.Server, address: Address, tls: TlsFiles | None) -> int:
    open_port: Callable[[], int]
    if tls is None:
        open_port = lambda: server.add_insecure_port(str(address))  # noqa: E731
    else:
        credentials = grpc.ssl_server_credentials([tls.read()])
        open_port = lambda: server.add_secure_port(str(address), credentials)  # noqa: E731
    try:
        port = open_port()
    except RuntimeError as exc:
        raise SettingsError(f"can't listen on {address}: {exc}; is another server there?") from exc
    if not port:
        raise SettingsError(f"can't listen on {address}; is another server there?")
    return port
