"""trunkline heads fit."""

from __future__ import annotations

from typing import Any

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.heads.group import described, print_tables, stages
from trunkline_service.cli.options import Place, place_options
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.evaluation.evaluate import Evaluation
from trunkline_service.heads.evaluation.kinds import AnyEvaluation
from trunkline_service.heads.fit import KINDS
from trunkline_service.heads.report.text import classes_table, figures_table

_TRANSFORMS = ("standardise", "l2", "whiten", "none")


@click.command(short_help="Learn a collection's labels.")
@click.argument("collection")
@click.option("--name", required=True, help="Name of the head; a known name gets its next version.")
@click.option(
    "--kind", type=click.Choice(KINDS), default="logistic", show_default=True, help="What kind of model."
)
@click.option(
    "--target",
    default="label",
    show_default=True,
    metavar="COLUMN",
    help="What to learn: labels, or numbers (several columns parted by commas).",
)
@click.option("--group", metavar="COLUMN", help="Rows of one value stay on one side of every split.")
@click.option(
    "--test-split", default="test", show_default=True, metavar="V", help="Value of 'split' of the test rows."
)
@click.option("--class-weight", type=click.Choice(("none", "balanced")), help="Weigh every class alike.")
@click.option("--transform", type=click.Choice(_TRANSFORMS), help="What embeddings go through first.")
@click.option("--grid", metavar="X,Y,...", help="Candidates of the kind's own hyper-parameter.")
@click.option("--folds", type=int, help="Folds of the cross-validation.  [default: 5]")
@click.option("--seed", type=int, help="Of everything random.  [default: 0]")
@click.option("--normal", metavar="LABEL", help="For --kind anomaly: the label of what is normal.")
@click.option("--candidate", is_flag=True, help="Save it without letting it serve; see 'heads promote'.")
@click.option("--warm", is_flag=True, help="Start from the version that serves; for small corrections.")
@click.option("--no-report", is_flag=True, help="Make no report, which can take longer than the fit.")
@click.option("--precision", type=click.Choice(("float32", "float64")), help="Of the solver.")
@click.option("--device", metavar="NAME", help="cpu, or a device such as cuda.  [default: cpu]")
@place_options
def fit(
    collection: str, name: str, kind: str, place: Place, grid: str | None, no_report: bool, **options: Any
) -> None:
    """Fits a head on the labels of COLLECTION and evaluates it by cross-validation.

    Example: trunkline heads fit photos --name flowers
    """
    candidates = None if grid is None else _grid(grid)
    with place.client() as client:
        with stages(place.json) as progress:
            head = client.fit_head(
                collection,
                name,
                kind,
                grid=candidates,
                report=not no_report,
                progress=progress,
                **options,
            )
        if head.model:
            output.say_about(client, head.model)
    if place.json:
        output.print_json(described(head))
        return
    _tell(HeadCard.from_json(head.card), head, reported=not no_report)


def _tell(card: HeadCard, head: trunkline.HeadInfo, *, reported: bool) -> None:
    from trunkline_service.workspace.reporting import NO_REPORT

    output.say(
        f"head {card.ref} ({card.kind}) on {output.counted(card.rows, 'row')} of {card.collection} "
        f"version {card.collection_version}"
    )
    if isinstance(card.metrics, Evaluation):
        low, high = card.metrics.accuracy_interval
        output.say(
            f"{_judged(card.metrics)} {card.metrics.accuracy:.3f} (95% interval {low:.3f} to {high:.3f}; "
            f"always naming the largest class: {card.metrics.baseline_accuracy:.3f})"
        )
    tables = [None if card.metrics is None else figures_table(_judged(card.metrics, ""), card.metrics)]
    tables += [None if card.test_metrics is None else figures_table("test split", card.test_metrics)]
    tables += [None if card.metrics is None else classes_table(card.metrics)]
    print_tables(tables)
    for note in card.notes:
        (output.warn if note.startswith(NO_REPORT) else output.note)(note)
    if reported and not any(note.startswith(NO_REPORT) for note in card.notes):
        output.hint(f"labels that look wrong, what more labels would buy: trunkline heads report {card.ref}")
    if head.serving == head.version:
        output.hint(f"next: trunkline predict IMAGE --head {card.name}")
    else:
        output.hint(f"it does not serve yet; next: trunkline heads promote {card.ref}")


def _judged(metrics: AnyEvaluation, figure: str = "accuracy") -> str:
    """What held-out rows a figure is of."""
    if metrics.folds == 1:
        rows = output.counted(metrics.n, "row")
        return f"{figure} on the validation split ({rows})" if figure else "validation split"
    return f"cross-validated {figure}".rstrip()


def _grid(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as exc:
        raise click.UsageError(f"--grid {text}: give numbers parted by commas, such as 0.1,1,10") from exc
