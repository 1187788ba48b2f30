"""The engine of a process that has a link to the one that owns the device."""

from __future__ import annotations

import time
from dataclasses import dataclass

from trunkline_service.batching.caching import CachingGate
from trunkline_service.batching.link.claims import LinkedCache
from trunkline_service.batching.link.client import LinkedDevice, LinkedModels
from trunkline_service.batching.link.quota import QuotaTable, SharedAdmission
from trunkline_service.batching.pipeline import Pipeline
from trunkline_service.server.metrics import Metrics
from trunkline_service.server.processes.messages import Start
from trunkline_service.server.processes.sockets import device_socket
from trunkline_service.settings import MIB, Settings

# Of pixels that were decoded ahead of the device; what was never used costs nothing.
_ARENA_BYTES = 64 * MIB


@dataclass(frozen=True)
class Linked:
    """What a workspace needs instead of models of its own.

    Attributes:
        engine: Decodes here and runs models there.
        models: That are loaded there.
    """

    engine: Pipeline
    models: LinkedModels


class _Device(LinkedDevice):
    def trouble(self) -> str | None:
        """Nothing: how the other process is, the supervisor says. Asking it could last, if it hangs."""
        return None


def link(start: Start, settings: Settings, metrics: Metrics) -> Linked:
    """Links this process to that of the device; it need not be there yet.

    Args:
        start: What this process was told to be.
        settings: For the decode pool, and the bounds.
        metrics: Told what happens.
    """
    assert start.quota_row is not None, f"{start.part} admits nothing"
    admission = SharedAdmission(QuotaTable(start.quota_fd), start.quota_row, settings.queue)
    # One clock for all processes of the machine: deadlines pass between them.
    clock = time.monotonic
    device = _Device(device_socket(start.folder), _ARENA_BYTES, clock, admission.observe)
    cache = CachingGate(LinkedCache(device), clock, metrics) if settings.cache_mb else None
    engine = Pipeline(device, admission, settings, metrics, clock, cache)
    metrics.watch(engine.queued, lambda: admission.images, lambda: admission.bytes)
    return Linked(engine, LinkedModels(device))
