"""trunkline bench."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from trunkline_service import settings as settings_module
from trunkline_service.bench.dialect import ProtocolName, Served
from trunkline_service.bench.load import ClosedLoop, Load, OpenLoop, Periods
from trunkline_service.cli import bench_report, output
from trunkline_service.images.inputs import EncodedImage, ImageInput
from trunkline_service.settings import DecodeMode, Settings

if TYPE_CHECKING:
    from trunkline_service.bench.raw import Ceiling
    from trunkline_service.models.repository import ModelFolder

_CALLERS = [1, 16, 64]
_LONGEST_WARM_S = 2.0


def _counts(_context: click.Context, _option: click.Parameter, text: str | None) -> list[int] | None:
    """``1,16,64`` as numbers."""
    if text is None:
        return None
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) for word in words):
        raise click.BadParameter(f"{text!r} is no list of positive numbers, such as 1,16,64")
    return [int(word) for word in words]


@click.command(short_help="Load a server and measure it: throughput, latencies, share of the raw ceiling.")
@click.argument("servers", nargs=-1, required=True, metavar="HOST:PORT...")
@click.option("--model", default="", metavar="NAME", help="Model to ask for.  [default: the server's own]")
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder of images to send, in turn.  [default: 32 photographs of 640 x 427, made here]",
)
@click.option("--pixels", is_flag=True, help="Send pixels of the model's input size instead of files.")
@click.option(
    "--images-per-call", type=click.IntRange(1), default=1, show_default=True, help="Images in each call."
)
@click.option(
    "--concurrency",
    metavar="C,...",
    callback=_counts,
    help="Callers at once, who each wait for their answer; a measurement for each number.  [default: 1,16,64]",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="CALLS",
    help="Calls a second, at random times, answered or not; instead of --concurrency.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds of each measurement; a warm-up goes before it.",
)
@click.option(
    "--protocol",
    type=click.Choice(get_args(ProtocolName)),
    default="trunkline",
    show_default=True,
    help="Protocol that the server speaks.",
)
@click.option("--channels", type=click.IntRange(1), default=8, show_default=True, help="Connections to open.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Deadline of a call, in seconds.",
)
@click.option("--raw", is_flag=True, help="Also measure the model on this machine without a server.")
@click.option("--models", metavar="DIR", help="Model repository for --raw.  [default: ./models]")
@click.option("--device", help="Device for --raw: auto, cpu, cuda or cuda:N.  [default: the server's]")
@click.option(
    "--tls-ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Connect with TLS and trust this certificate.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def bench(
    servers: tuple[str, ...],
    model: str,
    images: Path | None,
    pixels: bool,
    images_per_call: int,
    concurrency: list[int] | None,
    rate: float | None,
    seconds: float,
    protocol: ProtocolName,
    channels: int,
    timeout_s: float,
    raw: bool,
    models: str | None,
    device: str | None,
    tls_ca: Path | None,
    as_json: bool,
) -> None:
    """Loads the server at HOST:PORT and prints what it gave; several servers are loaded together.

    Callers (--concurrency) show how much it can do, a --rate how long an answer takes under what production
    sends: latencies count from when a call was due. The same images come again and again, so that a server
    with a cache answers from it. Ctrl-C prints what was measured by then.

    Example: trunkline bench 127.0.0.1:50051 --raw --models models
    """
    from trunkline_service.bench import pictures, run
    from trunkline_service.bench.calls import Calls, Servers
    from trunkline_service.bench.report import bad_images
    from trunkline_service.server.listening import parse_address

    if rate and concurrency:
        raise click.UsageError("--rate and --concurrency are two kinds of load; give one of them")
    addresses = [parse_address(server, "the server") for server in servers]
    settings = settings_module.load({"models": models, "device": device})
    where = Servers(servers, tls_ca, channels)
    dialect = run.ask(where, protocol, model)
    # Refused before the minutes of the load, not after.
    ceiling_of = _Raw.of(settings, dialect.served, device) if raw else None
    files = pictures.read_folder(images) if images else pictures.photographs()
    sent: Mapping[str, ImageInput] = (
        pictures.pixels_of(files, dialect.served.input_size)
        if pixels
        else {name: EncodedImage(data) for name, data in files.items()}
    )
    requests = run.build(where, dialect, sent, images_per_call, timeout_s)
    loads: list[Load] = [OpenLoop(rate)] if rate else [ClosedLoop(c) for c in concurrency or _CALLERS]

    def told(load: Load) -> None:
        if not as_json:
            output.hint(f"{load}, {seconds:g} s ...")

    result = run.put_on(
        lambda: Calls(where, dialect, requests, timeout_s),
        dialect.served,
        loads,
        Periods(min(_LONGEST_WARM_S, seconds / 5), seconds),
        told=told,
    )
    ceiling, complete = None, result.complete
    if ceiling_of and complete:
        if not as_json:
            output.hint("this machine without a server ...")
        try:
            ceiling = ceiling_of.measure(list(sent.values()), seconds)
        except KeyboardInterrupt:
            complete = False
    about = {
        "servers": list(servers),
        "protocol": protocol,
        "images": len(sent),
        "form": "pixels" if pixels else "encoded",
        "mean_image_bytes": round(sum(len(image.data) for image in sent.values()) / len(sent)),
        "images_per_call": images_per_call,
        "channels": channels,
        "machine": _machine(),
        "bad_images": bad_images(result.failures, list(sent), images_per_call),
    }
    if as_json:
        bench_report.show_json(result, ceiling, about)
    else:
        bench_report.show(result, ceiling, about, all(address.is_loopback for address in addresses))
    if not complete:
        raise click.Abort


def _machine() -> dict[str, Any]:
    """Where the generator ran: figures without it say little."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
    }


@dataclass(frozen=True)
class _Raw:
    """What ``--raw`` runs: the model that the server serves, from this machine's folder."""

    folder: ModelFolder
    settings: Settings
    served: Served
    device: str

    @classmethod
    def of(cls, settings: Settings, served: Served, device: str | None) -> _Raw:
        from trunkline_service.bench.raw import folder_of

        folder = folder_of(Path(settings.models), served)
        return cls(folder, settings, served, device or served.device or settings.device)

    def measure(self, images: Sequence[ImageInput], seconds: float) -> Ceiling:
        from trunkline_service.bench.raw import RawLoop, ceiling, ways
        from trunkline_service.models.session import parse_device

        threads, device = self.settings.worker_threads, parse_device(self.device)
        mode: DecodeMode = "fast" if (self.served.decode or self.settings.decode) == "fast" else "exact"
        loop = RawLoop(
            self.folder, images, device, mode, self.settings.image, threads, clock=time.perf_counter
        )
        return ceiling(ways(device, threads, self.settings.queue.max_batch), loop, seconds)
