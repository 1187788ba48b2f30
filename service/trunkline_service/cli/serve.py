"""trunkline serve."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from trunkline_service.cli import output
from trunkline_service.server.signals import heed
from trunkline_service.settings import load

if TYPE_CHECKING:
    from trunkline_service.server.app import Server
    from trunkline_service.server.listening import Security
    from trunkline_service.server.processes.supervisor import Supervisor
    from trunkline_service.server.started import Started
    from trunkline_service.settings import Settings


@click.command(short_help="Serve models, collections, heads and search over gRPC.")
@click.option("--models", metavar="DIR", help="Model repository.  [default: ./models]")
@click.option("--data", metavar="DIR", help="Collections and heads.  [default: ./data]")
@click.option(
    "--listen", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.  [127.0.0.1:50051]"
)
@click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: auto]")
@click.option(
    "--decode",
    type=click.Choice(["exact", "fast"]),
    help="exact: the pixels Pillow gives; fast: JPEG scaled while decoding.  [default: exact]",
)
@click.option("--default-model", metavar="NAME", help="What requests without a model get.  [the bundled one]")
@click.option("--threads", type=int, help="Threads for decoding and inference.  [default: one a core]")
@click.option(
    "--frontends",
    type=int,
    metavar="N",
    help="Front processes, where one process can't feed the device; 0: one for all.  [default: 0]",
)
@click.option(
    "--cache-mb",
    type=int,
    metavar="MIB",
    help="Keep embeddings of images that come again, up to so much; 0: none.  [default: 0]",
)
@click.option(
    "--max-connection-age",
    "max_connection_age_s",
    type=float,
    metavar="SECONDS",
    help="Have clients connect anew after so long, so that they spread; 0: never.  [default: 0]",
)
@click.option(
    "--refresh",
    "index_refresh_s",
    type=float,
    metavar="SECONDS",
    help="How stale a search may be; 0: it sees every row committed before it began.  [default: 0]",
)
@click.option(
    "--index-build",
    type=click.Choice(["auto", "never"]),
    help="auto: indexes of large collections are built and rebuilt beside searches.  [default: auto]",
)
@click.option("--metrics-listen", metavar="HOST:PORT", help="Prometheus metrics.  [default: none]")
@click.option("--tls-cert", metavar="FILE", help="Certificate chain, PEM.")
@click.option("--tls-key", metavar="FILE", help="Private key, PEM.")
@click.option("--insecure", is_flag=True, help="Allow plain text beyond this machine.")
def serve(tls_cert: str | None, tls_key: str | None, insecure: bool, **flags: str | float | None) -> None:
    """Serves until SIGTERM or Ctrl-C, then finishes what is queued and exits with 0.

    Example: trunkline serve --listen 127.0.0.1:50051
    """
    stop = threading.Event()
    servers: list[Server | Supervisor] = []

    def end() -> None:
        stop.set()
        for started in servers:
            started.interrupt()

    # Before anything heavy: a rollout can be called off while models load.
    heed((signal.SIGTERM, signal.SIGINT), end)
    from trunkline_service.server.allocator import bound_arenas
    from trunkline_service.server.collector import settle_collector
    from trunkline_service.server.listening import Security, tls_files

    settings = load(flags)
    _tell_of_indexes()
    bound_arenas(settings.worker_threads)
    server, begin = _made(settings, Security(tls_files(tls_cert, tls_key), insecure))
    servers.append(server)
    if stop.is_set():
        server.interrupt()
    try:
        served = begin()
        if stop.is_set():
            return
        settle_collector()
        for reference, pretrained in served.models.items():
            output.say_about_model(reference, pretrained)
        metrics = f", metrics on http://{server.metrics_address}/metrics" if server.metrics_address else ""
        # One line that a supervisor can wait for: it is printed when the server is ready, not before.
        sys.stdout.write(
            f"serving {', '.join(served.models)} on {server.address} "
            f"({served.device}, decode {settings.decode}){metrics}\n"
        )
        sys.stdout.flush()
        stop.wait()
        output.hint("draining ...")
    finally:
        server.stop()


def _tell_of_indexes() -> None:
    """Lines of what becomes of indexes, which are built and taken over without being asked for."""
    logging.getLogger("trunkline_service.index").setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.setLevel(min(handler.level, logging.INFO))


def _made(settings: Settings, security: Security) -> tuple[Server | Supervisor, Callable[[], Started]]:
    """A server of one process or of several, and what starts it."""
    if settings.frontends:
        from trunkline_service.server.processes.supervisor import Supervisor

        supervisor = Supervisor(settings, security)
        return supervisor, supervisor.start
    from trunkline_service.server.app import Server

    server = Server(settings, security)
    return server, server.start
