"""trunkline heads."""

from __future__ import annotations

import json

import click

from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options
from trunkline_service.heads.card import HeadCard

_SHOWN = 20


@click.group(short_help="Fit, list and show heads: small models over a collection's embeddings.")
def heads() -> None:
    """Heads learn a task from stored embeddings; the backbone stays as it is."""


@heads.command(short_help="Learn a collection's labels.")
@click.argument("collection")
@click.option("--name", required=True, help="Name of the head; a known name gets its next version.")
@click.option("--kind", default="logistic", show_default=True, help="What kind of model.")
@click.option("--folds", default=5, show_default=True, help="Folds of the cross-validation.")
@place_options
def fit(collection: str, name: str, kind: str, folds: int, place: Place) -> None:
    """Fits a head on the labels of COLLECTION and evaluates it by stratified cross-validation.

    Example: trunkline heads fit photos --name flowers
    """
    from trunkline_service.workspace import Workspace

    place.only_here("heads fit")
    with Workspace(place.settings()) as workspace:
        card = workspace.fit_head(collection, name, kind, folds)
        output.say_about_model(card.model, workspace.collections.open(collection).spec.pretrained)
    metrics = card.metrics
    assert metrics is not None, "a fitted head was evaluated"
    if place.json:
        output.print_json({**card.to_json(), "accuracy": metrics.accuracy})
        return
    low, high = metrics.accuracy_interval
    output.say(
        f"head {card.name}@{card.version} ({card.kind}) on {output.counted(card.rows, 'row')} of {collection} "
        f"version {card.collection_version}\n"
        f"cross-validated accuracy {metrics.accuracy:.3f} (95% interval {low:.3f} to {high:.3f}; "
        f"always naming the largest class: {metrics.baseline_accuracy:.3f})\n"
        f"balanced accuracy {metrics.balanced_accuracy:.3f}, macro-F1 {metrics.macro_f1:.3f}, "
        f"log loss {metrics.log_loss:.3f}, calibration error {metrics.ece:.3f}"
    )
    rows = [
        (report.label, report.support, f"{report.precision:.3f}", f"{report.recall:.3f}", f"{report.f1:.3f}")
        for report in metrics.per_class
    ]
    output.table(("class", "rows", "precision", "recall", "f1"), rows, ("rows", "precision", "recall", "f1"))
    for note in card.notes:
        output.warn(note)
    output.hint(f"next: trunkline predict IMAGE --head {card.name}")


@heads.command("list", short_help="All heads.")
@place_options
def list_(place: Place) -> None:
    """Lists heads.

    Example: trunkline heads list
    """
    with place.client() as client:
        found = client.heads()
    if place.json:
        output.print_json([head.card for head in found])
        return
    if not found:
        output.hint("no heads here yet; 'trunkline heads fit COLLECTION --name NAME' makes one")
        return
    rows = [
        (
            f"{head.name}@{head.version}",
            head.kind,
            len(head.classes),
            "" if head.accuracy is None else f"{head.accuracy:.3f}",
            f"{head.collection} version {head.collection_version}" if head.collection else "none",
            head.model,
        )
        for head in found
    ]
    columns = ("head", "kind", "classes", "accuracy", "collection", "model")
    output.table(columns, rows, numbers=("classes", "accuracy"))


@heads.command(short_help="The card of a head.")
@click.argument("name")
@place_options
def show(name: str, place: Place) -> None:
    """Prints the card of head NAME or NAME@VERSION.

    Example: trunkline heads show flowers
    """
    from trunkline_service.heads.storage.registry import HeadRegistry

    place.only_here("heads show")
    card = HeadRegistry(place.settings().data).card(name)
    if place.json:
        output.print_json(card.to_json())
        return
    output.table(
        ("", ""),
        [
            ("head", f"{card.name}@{card.version}"),
            ("kind", card.kind),
            ("space", card.space_id),
            ("model", card.model),
            *_origin(card),
            ("hyper-parameters", json.dumps(dict(card.hyper_parameters))),
            ("classes", _some(card.classes)),
            ("notes", "; ".join(card.notes)),
        ],
    )


def _some(classes: tuple[str, ...]) -> str:
    more = len(classes) - _SHOWN
    return ", ".join(classes[:_SHOWN]) + (f" and {more} more (--json shows them)" if more > 0 else "")


def _origin(card: HeadCard) -> list[tuple[str, str]]:
    if card.metrics is None:
        return [("learned from", "nothing here: it is the network's own last layer")]
    return [
        (
            "collection",
            f"{card.collection} version {card.collection_version}, {output.counted(card.rows, 'row')}",
        ),
        ("accuracy", f"{card.metrics.accuracy:.3f} over {card.metrics.folds} folds"),
    ]
