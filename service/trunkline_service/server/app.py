"""The composition root: builds a server from settings, earns its health, drains it."""

from __future__ import annotations

import logging
import threading

from trunkline_service.batching.pipeline import Pipeline
from trunkline_service.server import names, services
from trunkline_service.server.endpoint import Endpoint
from trunkline_service.server.interceptors import CallInterceptor
from trunkline_service.server.listening import Address, Security, check_exposure, parse_address
from trunkline_service.server.metrics import Metrics, MetricsPage
from trunkline_service.server.metrics_page import open_page
from trunkline_service.server.started import Started, started
from trunkline_service.settings import Settings
from trunkline_service.workspace import Workspace

_log = logging.getLogger(__name__)

_HEALTH_EVERY_S = 1.0


class Server:
    """A gRPC server over a workspace.

    Args:
        settings: Where to listen, what to load, how much to take.
        security: TLS.

    Raises:
        SettingsError: The address is wrong, taken, or reachable from outside without TLS.
    """

    def __init__(self, settings: Settings, security: Security | None = None) -> None:
        self._security = security = security or Security()
        address = parse_address(settings.listen)
        check_exposure(address, security.tls, security.insecure)
        self.settings = settings
        self.metrics = Metrics()
        self.workspace = Workspace(settings, observer=self.metrics)
        self._stopping = threading.Event()
        self._page: MetricsPage | None = None
        self._endpoint = Endpoint(settings, names.NAMES, lambda gate: CallInterceptor(gate, self.metrics))
        self._gate = self._endpoint.gate
        services.register(self._endpoint.server, self.workspace, lambda: self._gate.is_open)
        self._set_health(False)
        self.address = Address(address.host, self._endpoint.bind(str(address), security.tls))
        self._maintainer = self.workspace.index_maintainer()
        self._watcher = threading.Thread(target=self._watch, name="health", daemon=True)

    def start(self) -> Started:
        """Listens, warms every bucket of every model, and only then says it is ready.

        Returns:
            The models that are warm.

        Raises:
            ModelNotFound, ModelFileError: A model can't be loaded.
            SettingsError: The metrics' address is taken; CUDA was asked for and can't be had.
        """
        self._endpoint.start()
        self._open_metrics_page()
        cards = self.workspace.warm(self._stopping.is_set)
        if not self._stopping.is_set():
            self._gate.open()
            self._set_health(True)
            self._watcher.start()
            self._maintainer.start()
        return started(cards, self.workspace.device)

    def interrupt(self) -> None:
        """Ends the loading of models; for any thread, not for a signal handler. ``stop`` does the rest."""
        self._stopping.set()

    def stop(self) -> None:
        """Drains: takes no more work, finishes what was admitted within ``drain_s``, lets go of all."""
        self._stopping.set()
        # A build goes on for minutes: it must not begin to end only when the calls have.
        self._maintainer.ask_to_stop()
        # Health stays NOT_SERVING from here, whatever the watcher finds.
        self._endpoint.turn_away()
        self.metrics.ready(False)
        self._endpoint.drain(self.settings.drain_s)
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
        if isinstance(engine, Pipeline):
            admission = engine.admission
            self.metrics.watch(engine.queued, lambda: admission.images, lambda: admission.bytes)
        self._page = open_page(self.settings.metrics_listen, self._security, self.metrics.serve)

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
        self._endpoint.serve_all(healthy)
        self.metrics.ready(healthy)
