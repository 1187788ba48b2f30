"""trunkline health."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trunkline_service.cli import output


@click.command(short_help="Ask a server for its health; exits with 1 unless it is serving.")
@click.option("--server", required=True, metavar="HOST:PORT")
@click.option("--service", default="", help="One of its services.  [default: all of it]")
@click.option("--tls-ca", metavar="FILE", help="Connect with TLS and trust this certificate.")
@click.option("--timeout", default=2.0, show_default=True, help="Seconds.")
def health(server: str, service: str, tls_ca: str | None, timeout: float) -> None:
    """Asks grpc.health.v1, as a container's health check does.

    Example: trunkline health --server 127.0.0.1:50051
    """
    with _channel(server, tls_ca) as channel:
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


def _channel(server: str, tls_ca: str | None) -> grpc.Channel:
    if tls_ca is None:
        return grpc.insecure_channel(server)
    return grpc.secure_channel(server, grpc.ssl_channel_credentials(Path(tls_ca).read_bytes()))
