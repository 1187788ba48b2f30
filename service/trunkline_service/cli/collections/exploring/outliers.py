"""trunkline collections outliers."""

from __future__ import annotations

from typing import Any

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.collections.exploring.shared import (
    Pages,
    condition,
    distance_words,
    explored_json,
    label_words,
    page_options,
    row_json,
)
from trunkline_service.cli.collections.group import condition_options
from trunkline_service.cli.heads.group import stages
from trunkline_service.cli.options import Place, place_options


@click.command(short_help="Find the rows that are least like the others.")
@click.argument("name")
@click.option(
    "--limit", "--count", "count", default=20, show_default=True, metavar="N", help="How many, up to 1,000."
)
@click.option(
    "--neighbours", default=10, show_default=True, metavar="K", help="Which neighbour's distance counts."
)
@condition_options
@page_options
@place_options
def outliers(
    name: str,
    count: int,
    neighbours: int,
    where: str | None,
    parameters: tuple[str, ...],
    pages: Pages,
    place: Place,
) -> None:
    """Lists the rows of collection NAME that are furthest from their neighbours, and why.

    Example: trunkline collections outliers photos --limit 50 --html outliers.html
    """
    chosen = condition(where, parameters)
    with place.client() as client, stages(place.json) as progress:
        found = client.outliers(name, count, **chosen, neighbours=neighbours, progress=progress)
    if place.json:
        output.print_json(output.single(_document(found)))
    else:
        _print(found)
    if pages.wanted:
        from trunkline_service.cli.collections.exploring.outliers_page import render

        pages.deliver(render(found, pages.root_of(place)), "outliers", place, sources(found))


def sources(found: trunkline.Outliers) -> list[str]:
    """Of each outlier, and of the row nearest to it."""
    return [source for entry in found.outliers for source in (entry.row.source, entry.nearest.source)]


def usual(found: trunkline.Outliers) -> str:
    """What is usual, in a sentence."""
    what = "1 - cosine" if found.metric == "cosine" else "Euclidean distance"
    return (
        f"of {output.counted(found.rows, 'row')}, half have their {ordinal(found.neighbours)} neighbour within "
        f"{distance_words(found.usual)} ({what})"
    )


def ordinal(number: int) -> str:
    """``"1st"``, ``"2nd"``, ``"11th"``."""
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if number % 100 in (11, 12, 13) else endings.get(number % 10, "th")
    return f"{number}{ending}"


def _print(found: trunkline.Outliers) -> None:
    output.say(f"{found.collection}, version {found.version}: {usual(found)}")
    rows = [
        (
            distance_words(entry.distance),
            f"{entry.times:.1f}",
            label_words(entry.row.label),
            entry.row.id,
            entry.reason,
        )
        for entry in found.outliers
    ]
    output.table(("distance", "x usual", "label", "id", "why"), rows, numbers=("distance", "x usual"))


def _document(found: trunkline.Outliers) -> dict[str, Any]:
    return {
        **explored_json(found),
        "neighbours": found.neighbours,
        "usual": found.usual,
        "outliers": [
            {
                **row_json(entry.row),
                "distance": entry.distance,
                # JSON knows no infinity.
                "times": entry.times if found.usual > 0 else None,
                "reason": entry.reason,
                "nearest": {**row_json(entry.nearest), "distance": entry.nearest_distance},
            }
            for entry in found.outliers
        ],
    }
