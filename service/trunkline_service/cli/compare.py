"""trunkline compare."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from trunkline_service.cli import output
from trunkline_service.cli.options import Place

if TYPE_CHECKING:
    from trunkline_service.jobs.comparison.result import Compared, Comparison
    from trunkline_service.jobs.comparison.run import Step

_COLUMNS = ("model", "accuracy (95%)", "against best", "dim", "img/s", "MB", "precision")
_NUMBERS = ("dim", "img/s", "MB")


@click.command(short_help="Choose a backbone: compare models on a folder of labelled images.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--models", "names", required=True, metavar="A,B,C", help="Models, as NAME or NAME@VERSION.")
@click.option("--folds", default=5, show_default=True, help="Folds of the cross-validation.")
@click.option(
    "--into", metavar="PREFIX", help="Vectors go to PREFIX-MODEL, one each.  [default: the folder's name]"
)
@click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: auto]")
@click.option("--repository", metavar="DIR", help="Model repository.  [default: ./models]")
@click.option("--data", metavar="DIR", help="Collections and heads.  [default: ./data]")
@click.option("--server", metavar="HOST:PORT", help="Not for this command: it works on folders here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def compare(
    folder: Path,
    names: str,
    folds: int,
    into: str | None,
    device: str | None,
    repository: str | None,
    data: str | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Embeds FOLDER with each model and evaluates the same head on the same folds; the parent folder is the label.

    The vectors are kept, one collection a model: run again, it embeds what is new. Here --models names the
    models to compare, and --repository says where they are (elsewhere that is --models).

    Example: trunkline compare photos/ --models trunkline-small,resnet18
    """
    from trunkline_service.jobs.comparison.names import prefix_of
    from trunkline_service.jobs.comparison.run import compare as compare_models
    from trunkline_service.jobs.sources import FolderSource
    from trunkline_service.workspace import Workspace

    place = Place(repository, data, server, None, as_json)
    place.only_here("compare")
    source = FolderSource(folder)
    if not as_json:
        output.say(f"{folder}: {source.describe()}")
    models = [name.strip() for name in names.split(",") if name.strip()]
    with Workspace(place.settings(device=device)) as workspace, _bar(quiet=as_json) as bar:
        task = bar.add_task("", total=None)
        try:
            found = compare_models(
                workspace,
                source,
                models,
                prefix_of(folder) if into is None else into,
                folds=folds,
                progress=lambda step: _show(bar, task, step),
            )
        except KeyboardInterrupt:
            output.hint("stopped; what is stored stays, and the same command goes on from there")
            raise
    following = _next(place, found)
    if as_json:
        output.print_json(_document(found, following))
        return
    _report(found)
    for problem in source.problems():
        output.warn(f"{problem}; its images are missing")
    output.hint(f"next: {following}")


def _bar(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=output.notices(),
        disable=quiet or not output.notices().is_terminal,
        transient=True,
    )


def _show(bar: Progress, task: TaskID, step: Step) -> None:
    what = f"{step.stage} {step.model}".rstrip()
    if bar.tasks[0].description != what:
        # The time that is left is guessed from this stage's pace alone.
        bar.reset(task, description=what)
    bar.update(task, completed=step.done, total=step.total)


def _report(found: Comparison) -> None:
    for result in found.results:
        output.hint(
            f"{result.collection}: {result.embedded:,} embedded with {result.model}, "
            f"{result.unchanged:,} were done before"
        )
    output.say(
        f"{output.counted(found.rows, 'image')} of {output.counted(found.labels, 'label')}{_left_out(found)}; "
        f"{found.kind} heads, {found.folds} folds; speed over {found.timed} images on {found.device} "
        f"({found.threads} threads), decoding included"
    )
    output.table(_COLUMNS, map(_cells, found.results), _NUMBERS)
    output.say(f"pick {found.reason}")
    for note in found.notes:
        output.say(f"note: {note}")
    for result in found.results:
        if not result.pretrained:
            output.say_about_model(result.model, result.pretrained)
        for note in result.notes:
            output.warn(f"{result.model}: {note}")


def _cells(result: Compared) -> tuple[object, ...]:
    low, high = result.evaluation.accuracy_interval
    return (
        result.model,
        f"{result.evaluation.accuracy:.3f} ({low:.3f}-{high:.3f})",
        _against(result),
        result.dim,
        f"{result.images_per_second:.1f}",
        f"{result.size_bytes / 1e6:.1f}",
        result.precision,
    )


def _against(result: Compared) -> str:
    if result.paired is None:
        return "best"
    p = result.paired.p_corrected
    return ("worse, " if result.worse else "") + ("p < 0.001" if p < 0.001 else f"p = {p:.3g}")


def _left_out(found: Comparison) -> str:
    left_out = found.left_out
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.failed.items()))
    parts = [
        f"{left_out.unlabelled:,} without a label" if left_out.unlabelled else "",
        f"{sum(left_out.failed.values()):,} that failed ({reasons})" if left_out.failed else "",
        f"{left_out.single:,} alone with their label" if left_out.single else "",
    ]
    said = ", ".join(part for part in parts if part)
    return f" (left out: {said})" if said else ""


def _next(place: Place, found: Comparison) -> str:
    """The command that fits a head to the picked model's vectors, which are there already."""
    words = ["trunkline", "heads", "fit", found.pick.collection, "--name", found.into]
    words += ["--models", place.models] if place.models is not None else []
    words += ["--data", place.data] if place.data is not None else []
    return shlex.join(words)


def _document(found: Comparison, following: str) -> dict[str, Any]:
    document = dataclasses.asdict(found)
    del document["picked"]
    for result in document["results"]:
        evaluation = result["evaluation"]
        result["accuracy"], result["accuracy_interval"] = (
            evaluation["accuracy"],
            evaluation["accuracy_interval"],
        )
    return {**document, "pick": found.pick.model, "collection": found.pick.collection, "next": following}
