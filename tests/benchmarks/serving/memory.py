"""Memory of a server under load for minutes, beside that of the raw process."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import replace

from tests.benchmarks.serving import made, report, trunkline
from tests.benchmarks.serving.bench import Bench, Row
from tests.benchmarks.serving.processes import Ended, Hung, memory_mb

CALLERS = 64
SAMPLES = 100


def memory(bench: Bench, seconds: float) -> None:
    """RSS and PSS at 64 callers: the beginning, the end, and over raw."""
    bench = replace(bench, seconds=seconds, retries=0)
    kinds = [variant for variant in bench.variants if variant.protocol == "trunkline"]
    short = replace(bench, seconds=2.0)
    for network in bench.networks:
        way = report.best_way([short.raw(network)])
        raw = short.raw(network, way=way)
        for variant in kinds:
            about = f"{variant.name}, {network}, memory at C={CALLERS} for {seconds:.0f} s"
            try:
                with trunkline.serving(bench.home, bench.models, network, variant.frontends) as served:
                    row = _watched(bench, network, served)
            except (Hung, Ended) as trouble:
                bench.record({"kind": "shown", "what": about, "measured": str(trouble), "asked": ""})
                continue
            bench.record({"kind": "shown", "what": about} | _shown(row, raw))


def _watched(bench: Bench, network: str, served: trunkline.Served) -> Row:
    samples: list[tuple[float, float]] = []
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(max(0.2, bench.seconds / SAMPLES)):
            samples.append(memory_mb(served.pid))

    requests = made.requests("trunkline", network, made.files(bench.images))
    begun = time.perf_counter()
    rows = bench.load(served.url("trunkline"), served.pid, requests, [CALLERS], name="memory")
    # The first word comes when the load begins.
    next(rows)
    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        (load,) = rows
    finally:
        stop.set()
        sampler.join()
    return {"samples": samples, "load": load, "wall": time.perf_counter() - begun}


def _shown(row: Row, raw: Row) -> Row:
    fifth = max(1, len(row["samples"]) // 5)
    first, last = (
        [statistics.median(column) for column in zip(*part, strict=True)]
        for part in (row["samples"][fifth : 2 * fifth] or row["samples"], row["samples"][-fifth:])
    )
    most = max(rss for rss, _ in row["samples"])
    load = row["load"]
    return {
        "measured": (
            f"RSS {last[0]:.0f} MB (PSS {last[1]:.0f}), {last[0] - raw['rss_mb']:+.0f} over raw's "
            f"{raw['rss_mb']:.0f}; second fifth of the time {first[0]:.0f}, last fifth {last[0]:.0f}, most "
            f"{most:.0f}; {load['n']} calls at {load['img_s']:.0f} a second, {load['errors']} errors"
        ),
        "asked": "<= 150 MB over raw, flat",
        "raw_mb": raw["rss_mb"],
        **row,
    }
