"""What interactive calls notice of a bulk job that saturates the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from tests.benchmarks.serving import made, trunkline
from tests.benchmarks.serving.bench import Bench, Row, figures
from tests.benchmarks.serving.processes import Ended, Hung

CALLERS = (1, 4)
BULK_CALLERS, BULK_IMAGES = 16, 16
LEAD_S = 2.0
# A slow network answers few calls in a short time, and the slowest of a hundred say something.
LONGER = 3


def lanes(bench: Bench) -> None:
    """Interactive p99 alone and beside the job, for one process and for several."""
    kinds = [variant for variant in bench.variants if variant.protocol == "trunkline"]
    for network in bench.networks:
        run_ms = bench.raw(network)["run_ms"]
        batch_ms = {batch: _batch_ms(run_ms, batch) for batch in (1, 16)}
        for variant in kinds:
            with trunkline.serving(bench.home, bench.models, network, variant.frontends) as served:
                for c in CALLERS:
                    about = f"{variant.name}, {network}, interactive p99, C={c}"
                    try:
                        row = _both(bench, network, served, c)
                    except (Hung, Ended) as trouble:
                        bench.record({"kind": "shown", "what": about, "measured": str(trouble), "asked": ""})
                        break
                    bench.record({"kind": "shown", "what": about} | _shown(row, batch_ms))


def _both(bench: Bench, network: str, served: trunkline.Served, c: int) -> Row:
    files, seconds = made.files(bench.images), LONGER * bench.seconds
    url = served.url("trunkline")

    def loads(lane: str, images: int, callers: int, seconds: float) -> Iterator[Row]:
        requests = made.requests("trunkline", network, files, images, lane)
        return figures(
            bench.load(url, served.pid, requests, [callers], name=lane, seconds=seconds, retries=0)
        )

    (idle,) = loads("interactive", 1, c, seconds)
    found: list[Row] = []
    trouble: list[Exception] = []

    def job() -> None:
        try:
            found.extend(loads("bulk", BULK_IMAGES, BULK_CALLERS, seconds + bench.warm + 2 * LEAD_S))
        except (Hung, Ended) as exc:
            trouble.append(exc)

    bulk = threading.Thread(target=job)
    bulk.start()
    # Time for its generator to start and to fill the queue.
    bulk.join(timeout=LEAD_S)
    try:
        (beside,) = loads("interactive", 1, c, seconds)
    finally:
        bulk.join()
    if trouble:
        raise trouble[0]
    return {"idle": idle, "beside": beside, "bulk": found[0]}


def _shown(row: Row, batch_ms: dict[int, float]) -> Row:
    idle, beside, bulk = row["idle"], row["beside"], row["bulk"]
    bounds = " / ".join(f"{2 * idle['p99'] + more:.1f}" for more in batch_ms.values())
    errors = beside["errors"] + bulk["errors"]
    return {
        "measured": (
            f"{beside['p99']:.1f} ms beside a bulk job of {bulk['img_s'] * BULK_IMAGES:.0f} img/s, "
            f"{idle['p99']:.1f} alone (p50 {beside['p50']:.1f}, {idle['p50']:.1f}); {errors} errors"
        ),
        "asked": f"2 x alone + one run: <= {bounds} ms (run of {' / '.join(map(str, batch_ms))} images)",
        **row,
    }


def _batch_ms(run_ms: dict[str, float], batch: int) -> float:
    """One run of so many images, by the faster of the ways."""
    return min(ms for way, ms in run_ms.items() if way.endswith(f"batch {batch}"))
