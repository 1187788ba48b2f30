"""trunkline collections clusters."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

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
from trunkline_service.errors import StorageError

_LABELS = 3


@click.command(short_help="Find what kinds of images there are.")
@click.argument("name")
@click.option(
    "-k",
    "--clusters",
    "--count",
    "count",
    type=int,
    metavar="K",
    help="How many clusters.  [default: chosen]",
)
@condition_options
@click.option(
    "--to",
    "table",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=in_a_folder,
    metavar="FILE.csv",
    help="Write which cluster each row is in, with the columns id and cluster.",
)
@page_options
@place_options
def clusters(
    name: str,
    count: int | None,
    where: str | None,
    parameters: tuple[str, ...],
    table: Path | None,
    pages: Pages,
    place: Place,
) -> None:
    """Parts the rows of collection NAME into clusters, whatever their labels, and shows what stands for each.

    Example: trunkline collections clusters photos -k 12 --html clusters.html
    """
    chosen = condition(where, parameters)
    with place.client() as client, stages(place.json) as progress:
        found = client.clusters(name, count, **chosen, progress=progress)
    if place.json:
        output.print_json(output.single(_document(found)))
    else:
        _print(found)
    if table is not None:
        _write(found, table)
        (output.hint if place.json else output.say)(f"wrote {table}")
    if pages.wanted:
        from trunkline_service.cli.collections.exploring.clusters_page import render

        pages.deliver(render(found, pages.root_of(place)), "clusters", place)


def summary(found: trunkline.Clusters) -> str:
    """How many there are, and how far apart, in a sentence."""
    how = "chosen by it" if found.chosen else "as asked for"
    many = f"{output.counted(found.rows, 'row')} in {output.counted(len(found.clusters), 'cluster')}"
    if found.silhouette is None:
        return many
    return f"{many} ({how}); mean silhouette {found.silhouette:.2f}" + (
        ", so they run into one another" if found.silhouette < 0.25 else ""
    )


def mix(cluster: trunkline.Cluster, most: int) -> str:
    """Its most frequent labels with their shares, in words."""
    shares = [f"{name} {rows / cluster.labelled:.0%}" for name, rows in list(cluster.labels.items())[:most]]
    return ", ".join(shares) if shares else "no labels"


def _print(found: trunkline.Clusters) -> None:
    output.say(f"{found.collection}, version {found.version}: {summary(found)}")
    rows = [
        (
            cluster.number + 1,
            f"{cluster.rows:,}",
            f"{cluster.cohesion:.3f}",
            mix(cluster, _LABELS),
            cluster.representatives[0].id,
        )
        for cluster in found.clusters
    ]
    columns = ("cluster", "rows", "cohesion", "labels", "in its middle")
    output.table(columns, rows, numbers=("cluster", "rows", "cohesion"))


def _write(found: trunkline.Clusters, path: Path) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("id", "cluster"))
            writer.writerows(
                (row_id, number + 1) for row_id, number in zip(found.ids, found.numbers.tolist(), strict=True)
            )
    except OSError as exc:
        raise StorageError(f"{path} can't be written: {exc.strerror or exc}") from exc


def _document(found: trunkline.Clusters) -> dict[str, Any]:
    return {
        **explored_json(found),
        "chosen": found.chosen,
        "silhouette": found.silhouette,
        "clusters": [
            {
                "cluster": cluster.number + 1,
                "rows": cluster.rows,
                "cohesion": cluster.cohesion,
                "labels": cluster.labels,
                "labelled": cluster.labelled,
                "representatives": [row_json(row) for row in cluster.representatives],
            }
            for cluster in found.clusters
        ],
    }
