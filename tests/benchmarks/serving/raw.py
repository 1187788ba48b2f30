"""The ceiling: Trunkline's decode and a session of its own in a loop, no server. A process of its own."""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tests.benchmarks.serving import made
from tests.benchmarks.serving.processes import memory_mb

BATCHES = (1, 4, 16)
ALONE = 40
CHECKED = 6
QUIET_CORES = 0.15


class Engine:
    """One way to use the cores."""

    def __init__(self, given: dict[str, Any], plan: Any) -> None:
        from trunkline_service.models.repository import ModelRepository
        from trunkline_service.models.session import Device, ModelSession
        from trunkline_service.settings import ImageLimits

        self.session = ModelSession(
            ModelRepository(Path(given["models"])).resolve(given["network"]), Device("cpu"), plan
        )
        self.plan, self._mode, self._limits = plan, given["decode"], ImageLimits()
        self._spec = self.session.card.preprocess
        # Cores that runs leave, where there are several images to decode.
        helpers = min(plan.batch, max(1, given["cores"] // plan.runs))
        self._pool = ThreadPoolExecutor(helpers) if helpers > 1 else None

    def slots(self) -> Any:
        """Room for a batch."""
        height, width = self.session.input_size
        return np.empty((self.plan.batch, height, width, 3), np.uint8)

    def run(self, images: list[bytes], slots: Any) -> Any:
        """Decodes and embeds a batch."""
        if self._pool is None:
            for data, slot in zip(images, slots, strict=True):
                self.decode(data, slot)
        else:
            list(self._pool.map(self.decode, images, slots))
        return self.session.run(slots)

    def decode(self, data: bytes, slot: Any) -> None:
        """Decodes one image into its place."""
        from trunkline_service.images.inputs import EncodedImage, prepare

        prepare(EncodedImage(data), self._spec, self._mode, self._limits, slot)


def measure(**given: Any) -> None:
    """Prints the figures of every way, of one image alone and of one run, and the first vectors."""
    from trunkline_service.models.plan import ExecutionPlan

    images, cores = made.files(Path(given["images"])), given["cores"]
    plans = [ExecutionPlan(1, cores, batch) for batch in BATCHES]
    plans += [ExecutionPlan(cores, 1, batch) for batch in BATCHES] if cores > 1 else []
    ways, alone, runs = {}, {}, {}
    for plan in plans:
        if given["way"] not in (None, name(plan)):
            continue
        engine = Engine(given, plan)
        engine.run([images[k % len(images)] for k in range(plan.batch)], engine.slots())
        tries = [_way(engine, images, given["seconds"])]
        while tries[-1]["other_cores"] > QUIET_CORES and len(tries) <= given["retries"]:
            tries.append(_way(engine, images, given["seconds"]))
        ways[name(plan)] = min(tries, key=lambda found: found["other_cores"])
        runs[name(plan)] = _run_ms(engine)
        if plan.batch == 1:
            alone[name(plan)] = _alone_ms(engine, images)
    vectors = [] if given["way"] else _vectors(given, images)
    rss, pss = memory_mb(os.getpid())
    print(
        json.dumps(
            {
                "ways": ways,
                "alone_ms": min(alone.values(), default=None),
                "run_ms": runs,
                "rss_mb": rss,
                "pss_mb": pss,
                "vectors": vectors,
            }
        ),
        flush=True,
    )


def name(plan: Any) -> str:
    """For people: ``2 x 1 thread, batch 16``."""
    return f"{plan.runs} x {plan.threads} thread{'s' if plan.threads > 1 else ''}, batch {plan.batch}"


def _way(engine: Engine, images: list[bytes], seconds: float) -> dict[str, float]:
    """Images a second, processor time an image, and what others took of the machine meanwhile."""
    done = [0] * engine.plan.runs

    def loop(k: int) -> None:
        slots, at = engine.slots(), k * 7
        while time.perf_counter() < until:
            engine.run([images[(at + j) % len(images)] for j in range(len(slots))], slots)
            at, done[k] = at + len(slots), done[k] + len(slots)

    threads = [threading.Thread(target=loop, args=(k,)) for k in range(engine.plan.runs)]
    begun, used, busy = time.perf_counter(), time.process_time(), _busy()
    until = begun + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall, used, busy = time.perf_counter() - begun, time.process_time() - used, _busy() - busy
    count = sum(done)
    return {"img_s": count / wall, "cpu_ms": 1e3 * used / count, "other_cores": max(0.0, busy - used) / wall}


def _busy() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def _alone_ms(engine: Engine, images: list[bytes]) -> float:
    slots, found = engine.slots(), []
    for k in range(ALONE):
        begun = time.perf_counter()
        engine.run([images[k % len(images)]], slots)
        found.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(found)


def _run_ms(engine: Engine) -> float:
    slots, found = engine.slots(), []
    slots[...] = 0
    for _ in range(5):
        begun = time.perf_counter()
        engine.session.run(slots)
        found.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(found)


def _vectors(given: dict[str, Any], images: list[bytes]) -> list[list[float]]:
    from trunkline_service.models.plan import ExecutionPlan

    engine = Engine(given, ExecutionPlan(1, 1, 1))
    slots = engine.slots()
    return [engine.run([data], slots)[0].tolist() for data in images[:CHECKED]]
