"""``python -m tests.batching.link.device_process MODELS ADDRESS run|hang``: a device, until its stdin ends."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from trunkline_service.batching.cache import EmbeddingCache
from trunkline_service.batching.device import LocalDevice
from trunkline_service.batching.link.host import DeviceHost
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.registry import LiveModels
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.settings import QueueLimits


class HangingSession(ModelSession):
    """Says that it runs, and never comes back."""

    def run(self, batch):
        print("running", flush=True)
        threading.Event().wait()


def main(models_folder, address, mode):
    kind = HangingSession if mode == "hang" else ModelSession
    models = LiveModels(
        ModelRepository(Path(models_folder)),
        lambda folder: kind(folder, Device("cpu"), ExecutionPlan(1, 1, 8)),
        "tiny",
    )
    models.get()
    device = LocalDevice(models, QueueLimits(max_batch=8), lambda _images, _seconds: None, time.monotonic)
    host = DeviceHost(device, models, Path(address), EmbeddingCache(1 << 20))
    host.start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
