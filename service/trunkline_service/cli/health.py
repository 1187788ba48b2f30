"""trunkline health."""

from __future__ import annotations

from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trunkline_service.cli import output


@click.command(short_help="Ask a server for its health; exits with 1 unless it is serving.")
@click.option("--server", required=True, metavar="HOST:PORT")
@click.option("--service", default="", help="One of its services.  [default: all of it]")
@click.option("--timeout", default=2.0, show_default=True, help="Seconds.")
def health(server: str, service: str, timeout: float) -> None:
    """Asks grpc.health.v1, as a container's health check does.

    Example: trunkline health --server 127.0.0.1:50051
    """
    with grpc.insecure_channel(server) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as exc:
            output.say(f"{server}: {exc.code().name}")
            raise SystemExit(1) from exc
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
    output.say(f"{server}: {status}")
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        raise SystemExit(1)
