"""trunkline health."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trunkline_service.bench.connecting import trusted, why_not
from trunkline_service.cli import output
from trunkline_service.cli.options import with_port


@click.command(short_help="Ask a server for its health; exits with 1 unless it is serving.")
@click.argument("address", required=False, metavar="[HOST:PORT]", callback=with_port)
@click.option("--server", metavar="HOST:PORT", callback=with_port, help="The same as HOST:PORT.")
@click.option("--service", default="", help="One of its services.  [default: all of it]")
@click.option("--tls-ca", metavar="FILE", help="Connect with TLS and trust this certificate.")
@click.option("--timeout", default=2.0, show_default=True, help="Seconds.")
def health(address: str | None, server: str | None, service: str, tls_ca: str | None, timeout: float) -> None:
    """Asks grpc.health.v1, as a container's health check does.

    Example: trunkline health 127.0.0.1:50051
    """
    server = _one(address, server)
    with _channel(server, tls_ca) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as exc:
            output.say(f"{server}: {exc.code().name}{_in_words(exc, service, tls_ca is not None)}")
            raise SystemExit(1) from exc
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        output.say(
            f"{server}: {status} (it is starting or draining, or a part of it failed: its log says which)"
        )
        raise SystemExit(1)
    output.say(f"{server}: {status}")


def _one(address: str | None, server: str | None) -> str:
    """The address, which is given in one of two ways.

    Raises:
        click.UsageError: In neither, or in both.
    """
    if (address is None) == (server is None):
        told = "neither was given" if server is None else f"{address} and --server {server} were given"
        raise click.UsageError(f"give the server's address, as HOST:PORT or with --server HOST:PORT; {told}")
    return address or server or ""


def _in_words(exc: grpc.RpcError, service: str, tls: bool) -> str:
    """Why, in brackets; nothing where that is not known."""
    code, details = exc.code(), exc.details() or ""
    if code is grpc.StatusCode.NOT_FOUND:
        why = f"it has no service {service!r}"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        why = "it serves no grpc.health.v1"
    else:
        why = why_not(code, details, tls) or details
    return f" ({why})" if why else ""


def _channel(server: str, tls_ca: str | None) -> grpc.Channel:
    if tls_ca is None:
        return grpc.insecure_channel(server)
    return grpc.secure_channel(server, grpc.ssl_channel_credentials(trusted(Path(tls_ca))))
