"""trunkline heads suggest."""

from __future__ import annotations

import dataclasses

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options


@click.command(short_help="What to label next.")
@click.argument("name", metavar="NAME[@VERSION]")
@click.argument("collection")
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, 1000),
    default=20,
    metavar="N",
    show_default=True,
    help="How many rows.",
)
@place_options
def suggest(name: str, collection: str, count: int, place: Place) -> None:
    """Lists the rows of COLLECTION that have no label and would teach head NAME most.

    Those of which it is unsure, and which differ from one another; the best one first.

    Example: trunkline heads suggest flowers photos -n 50
    """
    with place.client() as client:
        found = client.suggest_labels(name, collection, count)
        head = client.head(str(found.head))
    if place.json:
        output.print_json(_document(found))
        return
    if not found.rows:
        output.hint(f"no row of {found.collection} is without a value of {head.card['target']}")
        return
    rows = [(row.id, row.source, *_likeliest(row), row.reason) for row in found.rows]
    output.table(("id", "source", "likeliest", "next", "why"), rows)
    output.hint(_looked_at(found))
    if head.card["target"] == "label":
        output.hint(f"next: trunkline collections relabel {found.collection} --id ID --label LABEL")


def _document(found: trunkline.Suggestions) -> dict[str, object]:
    return {
        "head": str(found.head),
        "collection": found.collection,
        "collection_version": found.collection_version,
        "unlabelled": found.unlabelled,
        "asked": found.asked,
        "suggestions": [
            dataclasses.asdict(row)
            | {"likeliest": [{"label": label, "probability": p} for label, p in row.likeliest]}
            for row in found.rows
        ],
    }


def _likeliest(row: trunkline.Suggestion) -> tuple[str, str]:
    labels = [label for label, _ in row.likeliest]
    return labels[0], labels[1] if len(labels) > 1 else ""


def _looked_at(found: trunkline.Suggestions) -> str:
    all_of_them = f"{output.counted(found.unlabelled, 'row')} of {found.collection} without a label"
    if found.asked == found.unlabelled:
        return f"{found.head} was asked about {all_of_them}"
    return f"{found.head} was asked about {found.asked:,} rows, drawn at random from {all_of_them}"
