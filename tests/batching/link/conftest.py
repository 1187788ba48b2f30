"""A device's process and those linked to it, all in this process; or with the device in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from trunkline_service.batching.cache import EmbeddingCache
from trunkline_service.batching.caching import CachingGate
from trunkline_service.batching.device import LocalDevice
from trunkline_service.batching.link.claims import LinkedCache
from trunkline_service.batching.link.client import LinkedDevice, LinkedModels
from trunkline_service.batching.link.host import DeviceHost
from trunkline_service.batching.link.quota import QuotaTable, SharedAdmission
from trunkline_service.batching.pipeline import Pipeline
from trunkline_service.images.inputs import PixelTensor
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.registry import LiveModels
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.settings import QueueLimits, Settings

PATIENCE_S = 60
LIMITS = QueueLimits(max_images=64, max_bytes=4 << 20, max_batch=8)
SETTINGS = Settings(threads=2, queue=LIMITS)


def solid(value):
    return np.full((32, 32, 3), value, np.uint8)


def tensor(value):
    return PixelTensor(solid(value).tobytes(), "uint8", (32, 32, 3))


def until(condition):
    while not condition():
        threading.Event().wait(0.001)


@dataclass
class Valve:
    """Real sessions whose runs wait for permission, and remember one value an image; open at first."""

    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    batches: list[list[int]] = field(default_factory=list)

    def __post_init__(self):
        self.gate.set()

    def open_session(self, folder):
        valve = self

        class Session(ModelSession):
            def run(self, batch):
                valve.batches.append(batch[:, 0, 0, 0].tolist())
                valve.entered.release()
                valve.gate.wait()
                return super().run(batch)

        return Session(folder, Device("cpu"), ExecutionPlan(1, 1, 8))

    def shut(self):
        """Shuts it and forgets who entered."""
        self.gate.clear()
        while self.entered.acquire(blocking=False):
            continue
        self.batches.clear()

    @property
    def sizes(self):
        """Of the batches that ran."""
        return [len(values) for values in self.batches]

    def wait_entered(self):
        assert self.entered.acquire(timeout=PATIENCE_S)


@dataclass
class Calls:
    """Calls in threads of their own, and how each ended."""

    threads: list[threading.Thread] = field(default_factory=list)
    outcomes: list[object] = field(default_factory=list)

    def start(self, function, *arguments):
        def run():
            try:
                self.outcomes.append(function(*arguments))
            except Exception as exc:  # noqa: BLE001 - it is the outcome
                self.outcomes.append(exc)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        return self.threads[-1]

    def join(self):
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a call never ended"
        return self.outcomes


@pytest.fixture
def folder():
    """A folder with a short path: that of a socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="link-") as path:
        yield Path(path)


@pytest.fixture
def calls():
    made = Calls()
    yield made
    made.join()


class Front:
    """A process that has a link, as far as it shows in this one."""

    def __init__(self, address, quota, row=0, cache=False, arena_bytes=1 << 20, settings=SETTINGS):
        self.admission = SharedAdmission(quota, row, settings.queue)
        self.link = LinkedDevice(address, arena_bytes, time.monotonic, self.admission.observe)
        self.gate = CachingGate(LinkedCache(self.link), time.monotonic) if cache else None
        self.engine = Pipeline(self.link, self.admission, settings, None, time.monotonic, self.gate)
        self.models = LinkedModels(self.link)

    def vanish(self):
        """What its peer sees when this process is killed."""
        self.link.connection().end()

    def assert_idle(self, arena=None):
        """Nothing is left of any call."""
        until(lambda: not self.admission.images)
        assert self.admission.bytes == 0
        assert (arena or self.link.connection().arena).lent == 0
        if self.gate is not None:
            assert not self.gate._claims
            assert not self.gate._cache._waiting


class Rig:
    """A device with its host, and fronts."""

    def __init__(self, models_folder, address):
        self.address, self.valve = address, Valve()
        self.models = LiveModels(ModelRepository(models_folder), self.valve.open_session, "tiny")
        self.device = LocalDevice(self.models, LIMITS, lambda _images, _seconds: None, time.monotonic)
        self.cache = EmbeddingCache(1 << 20)
        self.quota = QuotaTable.create(4)
        self.host = DeviceHost(self.device, self.models, address, self.cache)
        self.host.start()
        self.fronts = []

    def front(self, **options):
        self.fronts.append(Front(self.address, self.quota, row=len(self.fronts), **options))
        return self.fronts[-1]

    def close(self):
        self.valve.gate.set()
        for front in self.fronts:
            front.engine.close(10)
        self.host.close()
        self.device.close(time.monotonic() + 10)
        os.close(self.quota.fd)


@pytest.fixture
def rig(tmp_path, folder, publish_tiny):
    publish_tiny(tmp_path)
    made = Rig(tmp_path, folder / "device")
    yield made
    made.close()


class DeviceProcess:
    """A device in a process of its own; see ``device_process.py``."""

    def __init__(self, models_folder, address, mode="run"):
        root = Path(__file__).resolve().parents[3]
        program = [sys.executable, "-m", "tests.batching.link.device_process"]
        self._process = subprocess.Popen(
            [*program, str(models_folder), str(address), mode],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def wait_run(self):
        """Until a run has begun, in a process that hangs in its runs."""
        assert self._process.stdout.readline() == b"running\n"

    def kill(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def device_process(tmp_path, folder, publish_tiny):
    """``device_process(mode)`` starts one at ``folder / "device"``; all are killed at the end."""
    publish_tiny(tmp_path)
    started = []

    def start(mode="run"):
        started.append(DeviceProcess(tmp_path, folder / "device", mode))
        return started[-1]

    yield start
    for process in started:
        process.kill()
