"""What `trunkline bench` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from trunkline_service.bench.report import document, of_raw
from trunkline_service.cli import output

if TYPE_CHECKING:
    from trunkline_service.bench.raw import Ceiling
    from trunkline_service.bench.run import Point, Result

# Beyond these it may be the generator that is measured.
_LATE_MS = 5.0
_BUSY_CORES = 0.9


def show(result: Result, raw: Ceiling | None, about: Mapping[str, Any], local: bool) -> None:
    """Prints a table, and below it what a reader should know of it.

    Args:
        result: What was measured.
        raw: What this machine does without a server, if that was measured.
        about: What was sent, and where to.
        local: Whether the servers run on this machine.
    """
    served = result.served
    told = ", ".join(
        part for part in (served.device, f"decode {served.decode}" if served.decode else "") if part
    )
    output.say(
        f"{served.reference} on {', '.join(about['servers'])}{f' ({told})' if told else ''}, {about['protocol']}; "
        f"{output.counted(about['images'], 'image')} ({about['form']}) of {decimal(about['mean_image_bytes'])}, "
        f"{about['images_per_call']} per call, {output.counted(about['channels'], 'channel')}, "
        f"{output.counted(about['machine']['cores'], 'core')} here"
    )
    columns = [
        "load",
        "images/s",
        "calls/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "max ms",
        "failed",
        "client ms/call",
    ]
    columns += ["served / raw"] if raw else []
    if not result.points:
        output.warn("stopped before anything was measured")
        return
    output.table(columns, [_cells(point, raw) for point in result.points], numbers=columns[1:])
    if raw:
        plan = raw.best.plan
        output.say(
            f"raw: {raw.best.images_per_s:.1f} images/s without a server, the best of {len(raw.tried)} ways: "
            f"{output.counted(plan.runs, 'run')} at once, {output.counted(plan.threads, 'thread')} in a run, "
            f"batch {plan.batch}"
        )
    if raw and not local:
        output.note("raw is this machine's, and the server runs on another one")
    for point in result.points:
        _remarks(point)
    if not result.complete:
        output.warn(
            "stopped early: what is here may be of a shorter time than was asked for, and the rest is missing"
        )


def write(path: Path | None, result: Result, raw: Ceiling | None, about: Mapping[str, Any]) -> None:
    """Writes the figures as JSON to a file, or prints them."""
    found = {**about, **document(result, raw)}
    if path is None:
        output.print_json(found)
    else:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _cells(point: Point, raw: Ceiling | None) -> list[str]:
    figures = point.figures
    times = (figures.p50_ms, figures.p95_ms, figures.p99_ms, figures.max_ms)
    return [
        str(point.load),
        f"{figures.images_per_s:.1f}",
        f"{figures.calls_per_s:.1f}",
        *map(_ms, times),
        str(sum(figures.errors.values()) + figures.overflow),
        _ms(figures.generator_ms_per_call),
        *([f"{of_raw(point, raw):.2f}"] if raw else []),
    ]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _remarks(point: Point) -> None:
    figures = point.figures
    if figures.errors:
        counts = ", ".join(f"{count:,} {status}" for status, count in sorted(figures.errors.items()))
        output.warn(f"{point.load}: calls failed: {counts}; latencies are those of the others")
    if figures.overflow:
        output.warn(
            f"{point.load}: {output.counted(figures.overflow, 'call')} not sent, since too many were unanswered: "
            "the server does not keep up with this rate, and the latencies leave out the worst"
        )
    if figures.late_p99_ms is not None and figures.late_p99_ms > _LATE_MS:
        output.note(
            f"{point.load}: calls began up to {figures.late_p99_ms:.1f} ms late (p99), which is in the latencies: "
            "this machine is too busy to send at this rate"
        )
    if figures.generator_s / figures.seconds > _BUSY_CORES:
        output.note(
            f"{point.load}: the load generator used {figures.generator_s / figures.seconds:.1f} cores; "
            "it may be the limit, or take the server's cores where both run on one machine"
        )
