"""From the start of the process to ready: the first time, and when everything was there before."""

from __future__ import annotations

import shutil
import statistics
import time

from tests.benchmarks.serving import trunkline
from tests.benchmarks.serving.bench import Bench
from tests.benchmarks.serving.processes import Ended, Hung

NETWORK = "mobilenetv2"
TIMES = 3


def start(bench: Bench) -> None:
    """A server says that it is ready only when it is."""
    network = NETWORK if NETWORK in bench.networks else bench.networks[0]
    for variant in bench.variants:
        if variant.protocol != "trunkline":
            continue
        first, again = [], []
        try:
            for _ in range(TIMES):
                shutil.rmtree(bench.home / "cache", ignore_errors=True)
                first.append(_seconds(bench, network, variant))
                again.append(_seconds(bench, network, variant))
            measured = (
                f"{statistics.median(again):.2f} s (of {', '.join(f'{s:.2f}' for s in again)}); "
                f"with nothing recorded {statistics.median(first):.2f} s"
            )
        except (Hung, Ended) as trouble:
            measured = str(trouble)
        what = f"{variant.name}, {network}: start to ready"
        bench.record({"kind": "shown", "what": what, "measured": measured, "asked": "< 3 s"})


def _seconds(bench: Bench, network: str, variant: trunkline.Variant) -> float:
    begun = time.perf_counter()
    with trunkline.serving(bench.home, bench.models, network, variant.frontends):
        return time.perf_counter() - begun
