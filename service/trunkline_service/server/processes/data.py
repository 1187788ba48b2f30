"""The process of the data: it owns collections, indexes, heads and fits, and answers the fronts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from prometheus_client import generate_latest

from trunkline_service.server import names, services
from trunkline_service.server.endpoint import Endpoint
from trunkline_service.server.interceptors import CallInterceptor
from trunkline_service.server.metrics import Metrics
from trunkline_service.server.processes.linked import link
from trunkline_service.server.processes.messages import Start
from trunkline_service.server.processes.sockets import data_target
from trunkline_service.workspace import Workspace


class _Nobody:
    """A `CallObserver`: the fronts count the calls, each once."""

    def call(self, method: str, code: str, seconds: float) -> None:
        """Does nothing."""


class DataRole:
    """A `Role`: all services, for the fronts alone.

    Args:
        start: What this process was told to be.

    Raises:
        SettingsError: It can't listen.
    """

    def __init__(self, start: Start) -> None:
        # Fronts stay connected; who is to connect anew are the clients.
        settings = dataclasses.replace(start.settings, max_connection_age_s=0.0)
        self._metrics = Metrics()
        linked = link(start, settings, self._metrics)
        self._workspace = Workspace(settings, self._metrics, linked.engine, linked.models)
        self._endpoint = Endpoint(settings, names.NAMES, lambda gate: CallInterceptor(gate, _Nobody()))
        services.register(self._endpoint.server, self._workspace)
        self._endpoint.bind(data_target(start.folder))
        self._maintainer = self._workspace.index_maintainer()

    def start(self, stopping: Callable[[], bool]) -> None:  # noqa: ARG002 - nothing here takes long
        """See `Role`."""
        self._endpoint.start()
        self._endpoint.gate.open()
        self._endpoint.serve_all(True)
        self._metrics.ready(True)
        self._maintainer.start()

    def trouble(self) -> str | None:
        """See `Role`."""
        return self._workspace.engine.trouble()

    def parts(self, troubles: Mapping[str, str]) -> None:
        """See `Role`; calls that need the device say themselves that it is away."""

    def metrics(self) -> str:
        """See `Role`."""
        return generate_latest(self._metrics.registry).decode()

    def ending(self) -> None:
        """See `Role`; a build goes on for minutes, and must not begin to end only when the calls have."""
        self._maintainer.ask_to_stop()

    def stop(self, drain_s: float) -> None:
        """See `Role`."""
        self.ending()
        self._endpoint.turn_away()
        self._metrics.ready(False)
        self._endpoint.drain(drain_s)
        self._maintainer.stop()
        self._workspace.close()
