"""Prometheus metrics: calls, queues, batch sizes, time by stage, errors by reason."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Implements the stages' ``Observer``, the workspace's ``ShadowObserver`` and the interceptor's ``CallObserver``.

    Every metric is in a registry of its own, so that several servers can live in one process.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        shared: dict[str, Any] = {"registry": self.registry}
        self._calls = Counter("trunkline_calls", "Finished calls", ["method", "code"], **shared)
        self._call_seconds = Histogram(
            "trunkline_call_seconds",
            "Time from a call's arrival to its answer",
            ["method"],
            buckets=_SECONDS,
            **shared,
        )
        self._stages = Histogram(
            "trunkline_stage_seconds",
            "Time of one decode, of one batch",
            ["stage"],
            buckets=_SECONDS,
            **shared,
        )
        self._batches = Histogram(
            "trunkline_batch_images", "Images in a batch", ["model"], buckets=_SIZES, **shared
        )
        self._failed = Counter(
            "trunkline_image_errors", "Images that could not be used", ["reason"], **shared
        )
        self._dropped = Counter(
            "trunkline_dropped_images", "Images dropped before work was spent on them", ["reason"], **shared
        )
        self._cached = Counter(
            "trunkline_cache_images", "Images looked up before they were decoded", ["result"], **shared
        )
        # Looking a label up costs more than counting.
        self._by_call: dict[tuple[str, str], tuple[Any, Any]] = {}
        self._by_model: dict[str, Any] = {}
        self._decode_seconds = self._stages.labels("decode")
        self._infer_seconds = self._stages.labels("infer")
        self._cached_by_result = {name: self._cached.labels(name) for name in ("hit", "joined", "miss")}
        shadowed = ["head", "serving", "candidate"]
        self._shadow_rows = Counter(
            "trunkline_shadow_rows", "Items that a candidate was asked about too", shadowed, **shared
        )
        self._shadow_disagreements = Counter(
            "trunkline_shadow_disagreements",
            "Items of which a candidate said something else than the version that serves",
            shadowed,
            **shared,
        )
        self._shadow_failures = Counter(
            "trunkline_shadow_failures", "Requests that a candidate could not answer", ["head"], **shared
        )
        self._ready = Gauge("trunkline_ready", "1 when every bucket is warm and every stage lives", **shared)
        self._queued = Gauge("trunkline_queued_images", "Images that wait, by stage", ["stage"], **shared)
        self._admitted = Gauge("trunkline_admitted_images", "Images admitted and not answered", **shared)
        self._admitted_bytes = Gauge("trunkline_admitted_bytes", "Their bytes", **shared)
        self._cache_entries = Gauge("trunkline_cache_entries", "Embeddings in the cache", **shared)
        self._cache_bytes = Gauge("trunkline_cache_bytes", "Their bytes", **shared)

    def watch(
        self, queued: Callable[[], dict[str, int]], images: Callable[[], int], size: Callable[[], int]
    ) -> None:
        """Reads the queues' gauges from these functions whenever the page is asked for."""
        for stage in ("decode", "infer"):
            self._queued.labels(stage).set_function(functools.partial(_one, queued, stage))
        self._admitted.set_function(images)
        self._admitted_bytes.set_function(size)

    def watch_cache(self, entries: Callable[[], int], size: Callable[[], int]) -> None:
        """Reads the cache's gauges from these functions; without this call they stay 0."""
        self._cache_entries.set_function(entries)
        self._cache_bytes.set_function(size)

    def decoded(self, seconds: float) -> None:
        """See ``Observer``."""
        self._decode_seconds.observe(seconds)

    def batch(self, model: str, size: int, seconds: float) -> None:
        """See ``Observer``."""
        self._infer_seconds.observe(seconds)
        sizes = self._by_model.get(model)
        if sizes is None:
            sizes = self._by_model[model] = self._batches.labels(model)
        sizes.observe(size)

    def dropped(self, reason: str) -> None:
        """See ``Observer``."""
        self._dropped.labels(reason).inc()

    def image_failed(self, reason: str) -> None:
        """See ``Observer``."""
        self._failed.labels(reason).inc()

    def cached(self, result: str) -> None:
        """See ``Observer``."""
        self._cached_by_result[result].inc()

    def shadow(self, head: str, serving: int, candidate: int, rows: int, disagreements: int) -> None:
        """See ``ShadowObserver``."""
        labels = (head, str(serving), str(candidate))
        self._shadow_rows.labels(*labels).inc(rows)
        self._shadow_disagreements.labels(*labels).inc(disagreements)

    def shadow_failed(self, head: str) -> None:
        """See ``ShadowObserver``."""
        self._shadow_failures.labels(head).inc()

    def call(self, method: str, code: str, seconds: float) -> None:
        """See ``CallObserver``."""
        kept = self._by_call.get((method, code))
        if kept is None:
            kept = self._by_call[method, code] = (
                self._calls.labels(method, code),
                self._call_seconds.labels(method),
            )
        count, histogram = kept
        count.inc()
        histogram.observe(seconds)

    def ready(self, is_ready: bool) -> None:
        """Says whether the server is healthy."""
        self._ready.set(1 if is_ready else 0)

    def serve(self, host: str, port: int) -> MetricsPage:
        """Serves ``/metrics`` on its own thread; port 0 takes a free one.

        Raises:
            OSError: The address can't be listened on.
        """
        return MetricsPage(*start_http_server(port, host, registry=self.registry))


def _one(queued: Callable[[], dict[str, int]], stage: str) -> float:
    return queued()[stage]


class MetricsPage:
    """The HTTP server of the metrics."""

    def __init__(self, server: Any, thread: Any) -> None:
        self._server = server
        self._thread = thread

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.server_port
        return port

    def close(self) -> None:
        """Stops it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
