"""trunkline embed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from trunkline_service.cli import output
from trunkline_service.cli.embed_report import ProgressBar, report, report_estimate, report_nothing
from trunkline_service.cli.options import Place, place_options

if TYPE_CHECKING:
    from trunkline_service.jobs.options import JobOptions, JobResult, Progress
    from trunkline_service.jobs.sources import Source
    from trunkline_service.workspace import Workspace

_JSON_EVERY_S = 1.0
_NOT_REMOTE = {
    "device": "the server infers, on the device that 'trunkline serve --device' gave it",
    "decode": "the server decodes, in the mode of the collection; a new one gets that of 'trunkline serve --decode'",
    "from_collection": "the sources that a collection recorded are read where it is; run this on the server's machine, "
    "with --data",
    "engine": "Ray's workers open --models and --data themselves; leave --server out",
    "dry_run": "a dry run measures the reading and the model of this machine; run it where the server runs",
}


def _source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a source is read."""
    for option in (
        click.option("--id-prefix", default="", metavar="TEXT", help="Stands before every id."),
        click.option("--label-separator", metavar="TEXT", help="A label holds several, cut here."),
        click.option("--bytes-col", metavar="NAME", help="Table column of the images themselves."),
        click.option("--split-col", metavar="NAME", help="Table column of splits."),
        click.option("--label-col", metavar="NAME", help="Table column of labels."),
        click.option("--path-col", metavar="NAME", help="Table column of paths or URLs."),
        click.option("--id-col", metavar="NAME", help="Table column of ids."),
        click.option("--from-collection", metavar="OLD", help="Embed the recorded sources of OLD again."),
    ):
        command = option(command)
    return command


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a job runs."""
    for option in (
        click.option(
            "--commit-seconds", type=float, default=10.0, show_default=True, help="At most so long."
        ),
        click.option("--commit-rows", type=int, default=4096, show_default=True, help="Rows of a commit."),
        click.option("--max-error-rate", type=float, default=0.2, show_default=True, help="Stop beyond it."),
        click.option("--dry-run", is_flag=True, help="Measure a sample; store nothing."),
        click.option("--replace", is_flag=True, help="Take over rows of another source with equal ids."),
        click.option("--prune", is_flag=True, help="Delete rows whose source vanished."),
        click.option("--verify", is_flag=True, help="Compare the bytes of every image, changed or not."),
        click.option("--retry-failed", is_flag=True, help="Try images again that failed before."),
        click.option("--workers", type=int, metavar="N", help="Processes of Ray.  [default: one a device]"),
        click.option("--ray-address", metavar="ADDRESS", help="A Ray cluster.  [default: this machine]"),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="This process, or Ray Data.",
        ),
        click.option("--shard", default="1/1", metavar="I/N", help="One part of the source, of N."),
    ):
        command = option(command)
    return command


@click.command(short_help="Embed images into a collection.")
@click.argument("source", required=False)
@click.option("--into", required=True, metavar="COLLECTION", help="Made if it does not exist.")
@click.option(
    "--model", default="", metavar="NAME[@VERSION]", help="[default: the collection's, or the bundled one]"
)
@click.option("--decode", type=click.Choice(["exact", "fast"]), help="[default: the collection's, or exact]")
@click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: auto]")
@_source_options
@_run_options
@place_options
def embed(source: str | None, into: str, place: Place, **given: Any) -> None:
    """Embeds the images of SOURCE. Run again, it goes on where it ended, and does what is new or changed.

    SOURCE is a folder (the parent folder is the label; train, val, test above it the split), a glob, a
    .csv or .parquet table, .tar shards, a Hugging Face dataset saved to disk, or a URL (s3://...).

    Example: trunkline embed photos/ --into photos
    """
    from trunkline_service.jobs.options import JobOptions
    from trunkline_service.jobs.shard import parse_shard

    if (source is None) == (given["from_collection"] is None):
        raise click.UsageError("name a SOURCE, or --from-collection OLD")
    if given["prune"] and source is None:
        raise click.UsageError(
            "--prune belongs to a SOURCE: rows of the collection may have come from elsewhere than OLD, and none of "
            "them says so; leave it out, and delete with 'trunkline collections delete'"
        )
    options = JobOptions(
        shard=parse_shard(given["shard"]),
        retry_failed=given["retry_failed"],
        verify=given["verify"],
        prune=given["prune"],
        replace=given["replace"],
        max_error_rate=given["max_error_rate"],
        commit_rows=given["commit_rows"],
        commit_s=given["commit_seconds"],
    )
    if place.server is not None:
        _on_server(source, into, place, given, options)
    elif given["engine"] == "ray":
        _on_ray(source, into, place, given, options)
    else:
        _here(source, into, place, given, options)


def _here(source: str | None, into: str, place: Place, given: dict[str, Any], options: JobOptions) -> None:
    from trunkline_service.jobs.local import LocalTarget
    from trunkline_service.jobs.pipeline import IN_FLIGHT, READERS
    from trunkline_service.jobs.run import run
    from trunkline_service.jobs.stages import StageTimes
    from trunkline_service.workspace import Workspace

    settings = place.settings(decode=given["decode"], device=given["device"])
    times = StageTimes(time.monotonic, {"read": READERS, "decode": settings.worker_threads})
    with Workspace(settings, observer=times) as workspace:
        found = _source(source, given, workspace)
        _say_first(found, place)
        if given["decode"] is not None and workspace.collections.exists(into):
            workspace.collections.open(into).check_decode(settings.decode)
        if given["dry_run"]:
            _dry_run(workspace, found, into, given, options, place)
            return
        several = found.multi_label
        target = LocalTarget(workspace, into, given["model"], in_flight=IN_FLIGHT, multi_label=several)
        with _showing(place) as show, _stopping() as stop:
            result = run(target, found, options, progress=show, stop=stop, times=times)
        card = workspace.repository.resolve(result.model).card
    _finish(result, place)
    if not place.json:
        output.say_about_card(card)


def _dry_run(
    workspace: Workspace,
    source: Source,
    into: str,
    given: dict[str, Any],
    options: JobOptions,
    place: Place,
) -> None:
    from trunkline_service.collections.known import Known
    from trunkline_service.jobs.estimate import estimate, sample
    from trunkline_service.jobs.pipeline import READERS
    from trunkline_service.jobs.plan import Listed, plan

    spec = workspace.spec_for(into, given["model"])
    exists = workspace.collections.exists(into)
    known = workspace.collections.open(into).known() if exists else Known([])
    listed = Listed()
    tasks = plan(
        source.items(),
        known,
        listed,
        shard=options.shard,
        retry_failed=options.retry_failed,
        verify=options.verify,
    )
    items = sample(tasks)
    if not items:
        nothing = {"images": 0, "unchanged": listed.unchanged, "failed_before": listed.failed_before}
        if place.json:
            output.print_json(nothing)
        else:
            report_nothing(listed)
        return
    from trunkline_service.models.session import ModelSession

    session = workspace.models.get(given["model"] or spec.model)
    assert isinstance(session, ModelSession), "a workspace of this process runs its models itself"
    found = estimate(items, listed, session, spec, workspace.settings, readers=READERS)
    if place.json:
        output.print_json(dataclasses.asdict(found))
    else:
        report_estimate(found)


def _on_server(
    source: str | None, into: str, place: Place, given: dict[str, Any], options: JobOptions
) -> None:
    from trunkline_service.jobs.remote import RemoteTarget
    from trunkline_service.jobs.run import run

    for name, value in {**given, "engine": given["engine"] != "local"}.items():
        if value and name in _NOT_REMOTE:
            raise click.UsageError(f"--{name.replace('_', '-')} and --server: {_NOT_REMOTE[name]}")
    found = _source(source, given, None)
    _say_first(found, place)
    several = found.multi_label
    with place.client() as client:
        target = RemoteTarget(client, into, given["model"], multi_label=several)
        with _showing(place) as show, _stopping() as stop:
            result = run(target, found, options, progress=show, stop=stop)
        output.say_about(client, result.model)
    _finish(result, place)


def _on_ray(source: str | None, into: str, place: Place, given: dict[str, Any], options: JobOptions) -> None:
    from trunkline_service.jobs.ray import run_on_ray
    from trunkline_service.workspace import Workspace

    settings = place.settings(decode=given["decode"], device=given["device"])
    with Workspace(settings) as workspace:
        found = _source(source, given, workspace)
        _say_first(found, place)
        with _showing(place) as show, _stopping() as stop:
            result = run_on_ray(
                workspace,
                found,
                into,
                given["model"],
                options,
                address=given["ray_address"],
                workers=given["workers"],
                progress=show,
                stop=stop,
            )
    _finish(result, place)


def _source(source: str | None, given: dict[str, Any], workspace: Workspace | None) -> Source:
    from trunkline_service.jobs.sources import TableColumns, resolve

    if source is None:
        from trunkline_service.jobs.sources.recorded import RecordedSource

        assert workspace is not None
        return RecordedSource(workspace.collections.open(given["from_collection"]))
    columns = TableColumns(
        id=given["id_col"],
        path=given["path_col"],
        label=given["label_col"],
        split=given["split_col"],
        bytes=given["bytes_col"],
        label_separator=given["label_separator"],
    )
    return resolve(source, columns, given["id_prefix"])


def _say_first(source: Source, place: Place) -> None:
    said = f"{source.uri}: {source.describe()}"
    if place.json:
        output.hint(said)
    else:
        output.say(said)


def _finish(result: JobResult, place: Place) -> None:
    if place.json:
        sys.stdout.write(json.dumps(dataclasses.asdict(result), ensure_ascii=False) + "\n")
    else:
        report(result)
    if result.stopped:
        raise click.exceptions.Exit(130)
    nothing_good = result.errors and not (result.embedded or result.unchanged or result.touched)
    if nothing_good or result.not_pruned:
        raise click.exceptions.Exit(1)


@contextlib.contextmanager
def _showing(place: Place) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal; with ``--json`` a line of JSON a second on standard error."""
    if not place.json:
        with ProgressBar() as bar:
            yield bar.show
        return
    last = -_JSON_EVERY_S

    def line(step: Progress) -> None:
        nonlocal last
        if step.seconds - last >= _JSON_EVERY_S:
            last = step.seconds
            values = {"event": "progress", **dataclasses.asdict(step), "rate": step.rate, "eta_s": step.eta_s}
            sys.stderr.write(json.dumps(values) + "\n")
            sys.stderr.flush()

    yield line


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, and the job ends when what it has begun is stored; a second one ends it at once."""
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    again = output.same_command()

    def on_interrupt(_number: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)
        output.hint(
            f"stopping: what is under way is being stored. To go on later: {again}   (Ctrl-C again stops at once)"
        )

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
