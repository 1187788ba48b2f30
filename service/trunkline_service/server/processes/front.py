"""A front process: sockets, TLS and decoding; pixels go to the device's process, other calls to the data's."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping

import grpc
from prometheus_client import generate_latest

from trunkline_protos.open_inference import inference_pb2_grpc
from trunkline_protos.v1 import (
    collections_pb2,
    embedding_pb2_grpc,
    explore_pb2,
    heads_pb2,
    models_pb2,
    search_pb2,
)
from trunkline_service.server import names
from trunkline_service.server.endpoint import Endpoint
from trunkline_service.server.interceptors import CallInterceptor, Gate
from trunkline_service.server.metrics import Metrics
from trunkline_service.server.open_inference.servicer import InferenceServicer
from trunkline_service.server.processes.linked import link
from trunkline_service.server.processes.messages import Start
from trunkline_service.server.processes.proxy import Proxy, ProxyInterceptor
from trunkline_service.server.processes.sockets import data_target
from trunkline_service.server.servicers.embedding import EmbeddingServicer
from trunkline_service.settings import Settings
from trunkline_service.workspace.embedding_work import EmbeddingWork

# Answered here; all others pass to the process of the data.
NATIVE = ("trunkline.v1.Embedding", "inference.GRPCInferenceService")
PASSED = tuple(name for name in names.NAMES if name not in NATIVE)
_PASSED_FILES = (models_pb2, collections_pb2, heads_pb2, search_pb2, explore_pb2)
_AWAY = "the process of collections and heads is away; it is started anew: try again in a second"
# A process that was started anew is to be found within a moment. What gRPC calls the minimum is the time that
# an attempt may take; one that is refused is made again after the others.
_RECONNECT_MS = (("initial", 100), ("min", 2_000), ("max", 500))
# Passed on at once. Where the process of the data hangs, they hold threads until it is ended.
_PASSED_WORK, _PASSED_LIGHT = 64, 16


class FrontRole:
    """A `Role`: one of the processes that clients are connected to.

    Args:
        start: What this process was told to be.

    Raises:
        SettingsError: It can't listen.
    """

    def __init__(self, start: Start) -> None:
        settings = dataclasses.replace(start.settings, threads=share_of(start.settings))
        self._metrics = Metrics()
        linked = link(start, settings, self._metrics)
        self._workspace = EmbeddingWork(settings, self._metrics, linked.engine, linked.models)
        self._channel = grpc.insecure_channel(data_target(start.folder), data_options(settings))
        self._passed = Gate(_PASSED_WORK, "send more in each call")
        light = Gate(_PASSED_LIGHT, "ask less often")
        # As anywhere: listings are answered before work is taken, and until the end.
        light.open()
        self._endpoint = Endpoint(
            settings,
            names.NAMES,
            self._interceptor,
            shared=True,
            aside=(self._passed,),
            aside_calls=_PASSED_WORK + _PASSED_LIGHT,
        )
        self._proxy = Proxy(self._channel, self._passed, light, self._metrics, _AWAY)
        self._register()
        self._guard = threading.Lock()
        self._stopped = False
        self._troubles: Mapping[str, str] = {"device": "nothing is known of it yet"}
        self._metrics.ready(False)
        self._endpoint.bind(str(start.address), start.security.tls)

    def start(self, stopping: Callable[[], bool]) -> None:  # noqa: ARG002 - nothing here takes long
        """See `Role`."""
        self._endpoint.start()

    def trouble(self) -> str | None:
        """See `Role`."""
        own = self._workspace.engine.trouble()
        others = [f"{part}: {why}" for part, why in self._troubles.items()]
        return "; ".join([own, *others] if own else others) or None

    def parts(self, troubles: Mapping[str, str]) -> None:
        """See `Role`: what depends on a part that is not up does not serve."""
        with self._guard:
            self._troubles = troubles
            if self._stopped:
                return
            if "device" not in troubles:
                self._endpoint.gate.open()
                self._passed.open()
            self._proxy.know(troubles.get("data"))
            serving = dict.fromkeys(NATIVE, "device" not in troubles)
            serving |= dict.fromkeys(PASSED, "data" not in troubles)
            self._endpoint.set_health(serving | {"": not troubles})
            self._metrics.ready(not troubles)

    def metrics(self) -> str:
        """See `Role`."""
        return generate_latest(self._metrics.registry).decode()

    def ending(self) -> None:
        """See `Role`; fronts are the first to be told to stop."""

    def stop(self, drain_s: float) -> None:
        """See `Role`."""
        with self._guard:
            self._stopped = True
            self._endpoint.turn_away()
            self._metrics.ready(False)
        self._endpoint.drain(drain_s)
        self._channel.close()
        self._workspace.close()

    def _interceptor(self, gate: Gate) -> grpc.ServerInterceptor:
        return ProxyInterceptor(CallInterceptor(gate, self._metrics), PASSED)

    def _register(self) -> None:
        server, gate = self._endpoint.server, self._endpoint.gate
        # grpcio-tools writes these functions without types.
        embedding_pb2_grpc.add_EmbeddingServicer_to_server(  # type: ignore[no-untyped-call]
            EmbeddingServicer(self._workspace), server
        )
        inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(  # type: ignore[no-untyped-call]
            InferenceServicer(self._workspace, lambda: gate.is_open), server
        )
        passed = {
            service.full_name: service
            for file in _PASSED_FILES
            for service in file.DESCRIPTOR.services_by_name.values()
        }
        for name in PASSED:
            methods = passed[name].methods
            server.add_generic_rpc_handlers(
                (self._proxy.handlers(name, {method.name: method.server_streaming for method in methods}),)
            )


def share_of(settings: Settings) -> int:
    """Threads of one front: all of them together have what one process would have."""
    return max(1, -(-settings.worker_threads // settings.frontends))


def data_options(settings: Settings) -> list[tuple[str, int]]:
    """Of the channel to the process of the data."""
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        *((f"grpc.{name}_reconnect_backoff_ms", value) for name, value in _RECONNECT_MS),
    ]
