"""trunkline embed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options


@click.command(short_help="Embed a folder of images into a collection.")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--into", required=True, metavar="COLLECTION", help="Made if it does not exist.")
@click.option(
    "--model", default="", metavar="NAME[@VERSION]", help="[default: the collection's, or the bundled one]"
)
@click.option(
    "--decode",
    type=click.Choice(["exact", "fast"]),
    help="[default: the collection's, or exact]",
)
@click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: auto]")
@click.option("--retry-failed", is_flag=True, help="Try images again that failed before.")
@place_options
def embed(
    source: Path,
    into: str,
    model: str,
    decode: str | None,
    device: str | None,
    retry_failed: bool,
    place: Place,
) -> None:
    """Embeds the images below SOURCE; the parent folder is the label. Run again, it goes on where it ended.

    Example: trunkline embed photos/ --into photos
    """
    from trunkline_service.jobs import local
    from trunkline_service.jobs.sources import scan_folder
    from trunkline_service.workspace import Workspace

    place.only_here("embed")
    scan = scan_folder(source)
    if not place.json:
        output.say(f"{source}: {scan.describe()}")
    settings = place.settings(decode=decode, device=device)
    with Workspace(settings) as workspace:
        if decode is not None and into in workspace.collections.names():
            workspace.collections.open(into).check_decode(settings.decode)
        with _bar(quiet=place.json) as bar:
            task = bar.add_task("embedding", total=None, rate="")
            try:
                result = local.run(
                    workspace, scan, into, model, retry_failed, lambda step: _show(bar, task, step)
                )
            except KeyboardInterrupt:
                output.hint(
                    f"stopped; what is stored stays. To go on: trunkline embed {source} --into {into}"
                )
                raise
        card = workspace.repository.resolve(result.model).card
    if place.json:
        output.print_json(dataclasses.asdict(result))
        return
    output.say_about_card(card)
    for folder in scan.unreadable:
        output.warn(f"{folder}; its images are missing")
    _report(result, into)


def _bar(quiet: bool) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=output.notices(),
        disable=quiet or not output.notices().is_terminal,
        transient=True,
    )


def _show(bar: Bar, task: TaskID, step: object) -> None:
    from trunkline_service.jobs.local import Progress

    assert isinstance(step, Progress)
    rate = f"{step.done / step.seconds:.0f} images/s" if step.seconds else ""
    errors = f", {step.errors} errors" if step.errors else ""
    bar.update(task, completed=step.done, total=step.total, rate=rate + errors)


def _report(result: object, into: str) -> None:
    from trunkline_service.jobs.local import JobResult

    assert isinstance(result, JobResult)
    rate = f" ({result.embedded / result.seconds:.0f} images/s)" if result.embedded else ""
    output.say(
        f"{into}: {result.embedded:,} embedded with {result.model} in {result.seconds:.1f} s{rate}, "
        f"{result.unchanged:,} were done before; version {result.version}"
    )
    if result.errors:
        output.table(
            ("failed images, by reason", "images"), sorted(result.errors.items()), numbers=("images",)
        )
    if result.failed_before:
        output.hint(f"{result.failed_before} images failed in earlier runs; --retry-failed tries them again")
    output.hint(
        f"next: trunkline heads fit {into} --name HEAD   or   trunkline search IMAGE --collection {into}"
    )
