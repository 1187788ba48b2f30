"""What `trunkline bench` prints."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from trunkline_service.bench.dialect import TOO_LARGE
from trunkline_service.bench.report import document, of_raw
from trunkline_service.cli import output

if TYPE_CHECKING:
    from trunkline_service.bench.calls import Failure
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
        "not sent",
        "client ms/call",
    ]
    columns += ["served / raw"] if raw else []
    if not result.points:
        output.warn("stopped before anything was measured")
        return
    output.table(columns, [_cells(point, raw) for point in result.points], numbers=columns[1:])
    output.say("client ms/call: processor time of this load generator for an answered call")
    if raw:
        plan = raw.best.plan
        output.say(
            f"raw: {raw.best.images_per_second:.1f} images/s without a server, the best of {len(raw.tried)} ways: "
            f"{output.counted(plan.runs, 'run')} at once, {output.counted(plan.threads, 'thread')} in a run, "
            f"batch {plan.batch}"
        )
    if raw and not local:
        output.note("raw is this machine's, and the server runs on another one")
    for point in result.points:
        _remarks(point, about["bad_images"])
    for line in _advice(
        result.failures, {status for point in result.points for status in point.figures.errors}
    ):
        output.note(line)
    if not result.complete:
        output.warn(
            "stopped early: what is here may be of a shorter time than was asked for, and the rest is missing"
        )


def show_json(result: Result, raw: Ceiling | None, about: Mapping[str, Any]) -> None:
    """Prints the figures as JSON."""
    output.print_json({**about, **document(result, raw)})


def _cells(point: Point, raw: Ceiling | None) -> list[str]:
    figures = point.figures
    times = (figures.p50_ms, figures.p95_ms, figures.p99_ms, figures.max_ms)
    return [
        str(point.load),
        f"{figures.images_per_second:.1f}",
        f"{figures.calls_per_second:.1f}",
        *map(_ms, times),
        f"{sum(figures.errors.values()):,}",
        f"{figures.overflow:,}",
        _ms(figures.generator_ms_per_call),
        *([f"{of_raw(point, raw):.2f}"] if raw else []),
    ]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _remarks(point: Point, bad_images: Mapping[str, str]) -> None:
    figures = point.figures
    if not figures.calls and not figures.errors:
        output.warn(f"{point.load}: no call ended in the {figures.seconds:.3g} s; give more --seconds")
    if figures.errors:
        counts = ", ".join(
            f"{count:,} {status}{f' (first: {bad_images[status]})' if status in bad_images else ''}"
            for status, count in sorted(figures.errors.items())
        )
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


def _advice(failures: Mapping[str, Failure], seen: Collection[str]) -> list[str]:
    """What to do about calls that failed within what counts."""
    lines: list[str] = []
    if "RESOURCE_EXHAUSTED" in seen:
        first = failures.get("RESOURCE_EXHAUSTED")
        # The server's own words name the bound; what they advise stands in ours.
        told = first.details.partition(";")[0] if first else ""
        lines.append(
            f"the server refuses work above its bounds{f' ({told})' if told else ''}; "
            "fewer callers, or more images in a call"
        )
    if TOO_LARGE in seen:
        lines.append(
            "a request was too large: fewer --images-per-call, or raise max_message_bytes at the server"
        )
    return lines
