"""What `trunkline embed` shows: a bar while it runs, sentences and tables at the end."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from trunkline_service.cli import output

if TYPE_CHECKING:
    from trunkline_service.jobs.estimate import Estimate
    from trunkline_service.jobs.options import JobResult, Progress
    from trunkline_service.jobs.plan import Listed

_FAILED = "status = 'error'"
_PROBLEMS_SHOWN = 10


class ProgressBar:
    """A bar on standard error; nothing where that is no terminal."""

    def __init__(self) -> None:
        self._bar = Bar(
            TextColumn("embedding"),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
            console=output.notices(),
            disable=not output.notices().is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("embedding", total=None, said="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, step: Progress) -> None:
        """Moves on."""
        of = f"of {step.total:,}" if step.total is not None else f"of at least {step.listed:,}"
        parts = [f"{step.done:,} {of}", f"{step.rate:.0f} images/s"]
        if step.eta_s is not None:
            parts.append(f"{duration(step.eta_s)} left")
        if step.errors:
            parts.append(output.counted(step.errors, "error"))
        parts.append(shares_in_words(step.shares))
        self._bar.update(self._task, completed=step.done, total=step.total, said=", ".join(parts))


def shares_in_words(shares: object) -> str:
    """``"read 3%, decode 97%, ..."``."""
    assert isinstance(shares, dict)
    return ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items())


def duration(seconds: float) -> str:
    """``"3 h 12 min"``, ``"4 min 10 s"``, ``"7.3 s"``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(count: float) -> str:
    """Bytes in the largest fitting unit of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def report(result: JobResult) -> None:
    """What a job did."""
    into = result.collection
    rate = f" ({result.embedded / result.seconds:.0f} images/s)" if result.embedded else ""
    output.say(
        f"{into}: {result.embedded:,} embedded with {result.model} in {duration(result.seconds)}{rate}, "
        f"{result.unchanged:,} were done before; version {result.version}"
    )
    for count, words in (
        (result.duplicates, "took the vector of another with the same bytes"),
        (result.touched, "kept the vector; of the newer file, the bytes are the same"),
        (result.pruned, "deleted, since the source vanished"),
    ):
        if count:
            output.say(f"{output.counted(count, 'image')} {words}")
    if result.errors:
        rows = sorted(result.errors.items(), key=lambda entry: (-entry[1], entry[0]))
        output.table(("failed images, by reason", "images"), rows, numbers=("images",))
        output.hint(
            f'which ones: trunkline collections export {into} --to failed.parquet --where "{_FAILED}"'
        )
    _report_problems(result)
    if result.not_pruned:
        output.warn(f"nothing was pruned: {result.not_pruned}")
    if result.not_pruned:
        output.warn(f"nothing was pruned: {result.not_pruned}")
    if result.embedded and any(result.shares.values()):
        output.hint(f"busy: {shares_in_words(result.shares)}")
    if result.failed_before:
        failed = output.counted(result.failed_before, "image")
        output.hint(f"{failed} failed in earlier runs; --retry-failed tries again")
    if result.vanished and not (result.pruned or result.not_pruned):
        output.hint(f"{output.counted(result.vanished, 'row')} without a source by now; --prune deletes such")
    if not (result.stopped or result.problems) and (result.embedded or result.unchanged or result.touched):
        output.hint(
            f"next: trunkline heads fit {into} --name HEAD   or   trunkline search IMAGE --collection {into}"
        )


def _report_problems(result: JobResult) -> None:
    """Why images may be missing; the job itself went to its end."""
    if not result.problems:
        return
    for problem in result.problems[:_PROBLEMS_SHOWN]:
        output.warn(problem)
    more = len(result.problems) - _PROBLEMS_SHOWN
    output.warn(
        (f"and {more:,} more. " if more > 0 else "")
        + f"The source could not be listed in full, so {result.collection} may lack images: mend it, and run the "
        "same command again"
    )


def report_nothing(listed: Listed) -> None:
    """That a job would find everything done."""
    output.say(
        f"nothing to do: {output.counted(listed.unchanged, 'image')} done, {listed.failed_before:,} failed before"
    )


def report_estimate(found: Estimate) -> None:
    """What a job would cost."""
    output.say(
        f"{output.counted(found.images, 'image')} to do ({found.unchanged:,} done, {found.failed_before:,} failed "
        f"before); the new rows would take {size(found.collection_bytes)}"
    )
    output.say(
        f"measured on {found.sampled}: read {found.read_ms:.2f} ms, model {found.infer_ms:.2f} ms an image"
        + (f"; failures {dict(found.failures)}" if found.failures else "")
    )
    rows = [
        (
            f"{mode}{' (this job)' if mode == found.collection_decode else ''}",
            f"{entry.decode_ms:.2f}",
            f"{entry.images_per_second:.0f}",
            duration(entry.seconds),
            entry.bottleneck,
        )
        for mode, entry in found.modes.items()
    ]
    columns = ("decode mode", "decode ms", "images/s", "time", "bottleneck")
    output.table(columns, rows, numbers=("decode ms", "images/s", "time"))
