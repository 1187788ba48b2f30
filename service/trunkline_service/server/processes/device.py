"""The process of the device: it owns models, sessions, batches and the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prometheus_client import generate_latest

from trunkline_service.batching.cache import EmbeddingCache
from trunkline_service.batching.device import LocalDevice
from trunkline_service.batching.link.host import DeviceHost
from trunkline_service.models.registry import LiveModels
from trunkline_service.server.metrics import Metrics
from trunkline_service.server.processes.messages import Start
from trunkline_service.server.processes.sockets import device_socket
from trunkline_service.server.started import Started, started
from trunkline_service.settings import MIB
from trunkline_service.workspace.embedding_work import EmbeddingWork


class DeviceRole:
    """A `Role`: runs models for the other processes.

    Args:
        start: What this process was told to be.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        settings = start.settings
        self._metrics = Metrics()
        self._workspace = EmbeddingWork(settings, self._metrics)
        models = self._workspace.models
        assert isinstance(models, LiveModels)
        self._models = models
        self._device = LocalDevice(
            models, settings.queue, lambda _images, _seconds: None, time.monotonic, self._metrics
        )
        self._cache = EmbeddingCache(settings.cache_mb * MIB, self._metrics) if settings.cache_mb else None
        self._host: DeviceHost | None = None
        self._metrics.watch(lambda: {"decode": 0, "infer": self._device.queued()}, lambda: 0, lambda: 0)
        if (cache := self._cache) is not None:
            self._metrics.watch_cache(lambda: cache.entries, lambda: cache.nbytes)

    def start(self, stopping: Callable[[], bool]) -> Started:
        """See `Role`; nobody can link to it before every bucket is warm."""
        cards = self._workspace.warm(stopping)
        if not stopping():
            address = device_socket(self._start.folder)
            self._host = DeviceHost(self._device, self._models, address, self._cache)
            self._host.start()
            self._metrics.ready(True)
        return started(cards, self._workspace.device)

    def trouble(self) -> str | None:
        """See `Role`."""
        return self._device.trouble()

    def parts(self, troubles: Mapping[str, str]) -> None:
        """See `Role`; it needs nobody."""

    def metrics(self) -> str:
        """See `Role`."""
        return generate_latest(self._metrics.registry).decode()

    def ending(self) -> None:
        """See `Role`; the others still need it."""

    def stop(self, drain_s: float) -> None:
        """See `Role`."""
        self._metrics.ready(False)
        self._device.close(time.monotonic() + drain_s)
        if self._host is not None:
            self._host.close()
        self._workspace.close()
