"""trunkline collections map."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.collections.exploring.shared import (
    Pages,
    condition,
    explored_json,
    page_options,
    row_json,
)
from trunkline_service.cli.collections.group import condition_options
from trunkline_service.cli.heads.group import stages
from trunkline_service.cli.options import Place, in_a_folder, place_options

# A plane that holds less of the variance shows a ball.
_LITTLE = 0.25


@click.command("map", short_help="Draw a collection as a map of points.")
@click.argument("name")
@click.option(
    "--method",
    type=click.Choice(["pca", "umap"]),
    default="pca",
    show_default=True,
    help="What places the points; umap needs the extra 'map'.",
)
@click.option("--points", type=int, metavar="N", help="The most; else a sample is shown.  [default: 20000]")
@click.option(
    "-k",
    "--clusters",
    "count",
    type=int,
    metavar="K",
    help="How many clusters to colour by.  [default: chosen]",
)
@condition_options
@click.option(
    "--png",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=in_a_folder,
    metavar="FILE",
    help="Draw it as an image.",
)
@click.option(
    "--by",
    type=click.Choice(["label", "cluster"]),
    help="What the colours of --png mean.  [default: label, where rows have one]",
)
@page_options
@click.option(
    "--thumbnails",
    default=3000,
    show_default=True,
    type=click.IntRange(0, 20_000),
    help="Images on the page.",
)
@place_options
def map_(
    name: str,
    method: Literal["pca", "umap"],
    points: int | None,
    count: int | None,
    where: str | None,
    parameters: tuple[str, ...],
    png: Path | None,
    by: Literal["label", "cluster"] | None,
    pages: Pages,
    thumbnails: int,
    place: Place,
) -> None:
    """Draws the rows of collection NAME as points: what is alike lies near each other.

    The page of --html or --open shows a row's image where the pointer is, and needs nothing but this one file.

    Example: trunkline collections map photos --html map.html --png map.png
    """
    if png is None and not pages.wanted and not place.json:
        raise click.UsageError("say where the map goes: --html FILE, --open, --png FILE or --json")
    if by is not None and png is None:
        raise click.UsageError("--by belongs to --png")
    chosen = condition(where, parameters)
    with place.client() as client, stages(place.json) as progress:
        found = client.map(name, method, **chosen, points=points, clusters=count, progress=progress)
    if place.json:
        output.print_json(output.single(_document(found)))
    else:
        output.say(f"{found.collection}, version {found.version}: {summary(found)}")
        if better := better_words(found):
            output.hint(better)
    if png is not None:
        from trunkline_service.cli.collections.exploring.map_picture import write_png

        write_png(found, png, by)
        (output.hint if place.json else output.say)(f"wrote {png}")
    if pages.wanted:
        from trunkline_service.cli.collections.exploring.map_page import render

        sources = (row.source for row in found.points)
        pages.deliver(render(found, pages.root_of(place), thumbnails), "map", place, sources)


def summary(found: trunkline.Map) -> str:
    """What is shown, in a sentence."""
    shown = output.counted(len(found.points), "row")
    if len(found.points) < found.rows:
        shown = f"{len(found.points):,} of {output.counted(found.rows, 'row')}"
    if found.explained is None:
        return f"{shown}, placed by {found.method.upper()}"
    if not sum(found.explained):
        # One row, or rows that are all the same.
        return f"{shown}, all in one place" if len(found.points) > 1 else f"{shown}, in the middle"
    return f"{shown}, placed by PCA; the plane holds {sum(found.explained):.0%} of the variance"


def better_words(found: trunkline.Map) -> str | None:
    """What would show more, in a sentence; None where this shows enough."""
    if found.explained is None or not 0 < sum(found.explained) < _LITTLE:
        return None
    return (
        f"PCA shows {sum(found.explained):.0%} of what differs; --method umap (pip install "
        "'trunkline[server,map]') shows neighbourhoods"
    )


def _document(found: trunkline.Map) -> dict[str, Any]:
    return {
        **explored_json(found),
        "method": found.method,
        "explained": found.explained,
        "points": [
            {**row_json(row), "x": x, "y": y, "cluster": cluster + 1}
            for row, (x, y), cluster in zip(
                found.points, found.places.tolist(), found.clusters.tolist(), strict=True
            )
        ],
    }
