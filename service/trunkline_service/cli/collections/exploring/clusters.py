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
    distance_words,
    explored_json,
    page_options,
    row_json,
    shown_option,
)
from trunkline_service.cli.collections.group import condition_options
from trunkline_service.cli.heads.group import stages
from trunkline_service.cli.options import Place, in_a_folder, place_options
from trunkline_service.errors import StorageError

_LABELS = 3
# Mean silhouettes below which clusters touch (Kaufman and Rousseeuw 1990), and below which there are hardly any.
_APART, _HARDLY_APART = 0.25, 0.1


@click.command(short_help="Find what kinds of images there are.")
@click.argument("name")
@click.option(
    "-k", "--clusters", "count", type=int, metavar="K", help="How many to make.  [default: chosen, 2 to 64]"
)
@condition_options
@shown_option("Clusters")
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
    limit: int,
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
        _print(found, limit)
    if table is not None:
        _write(found, table)
        (output.hint if place.json else output.say)(f"wrote {table}")
    if pages.wanted:
        from trunkline_service.cli.collections.exploring.clusters_page import render

        pages.deliver(render(found, pages.root_of(place)), "clusters", place, sources(found))


def summary(found: trunkline.Clusters) -> str:
    """How many there are, and how far apart, in a sentence."""
    how = "chosen by it" if found.chosen else "as asked for"
    many = f"{output.counted(found.rows, 'row')} in {output.counted(len(found.clusters), 'cluster')}"
    if found.silhouette is None:
        return many
    apart = ""
    if found.silhouette < _HARDLY_APART:
        apart = ", so the rows hardly fall into clusters"
    elif found.silhouette < _APART:
        apart = ", so they run into one another"
    return f"{many} ({how}); mean silhouette {found.silhouette:.2f}{apart}"


def more_words(found: trunkline.Clusters) -> str | None:
    """That there may be more clusters than were looked for, in a sentence; None where that is not so."""
    from trunkline_service.explore.clusters import counts_tried

    most = counts_tried(found.rows)[-1]
    if not found.chosen or most == 1 or len(found.clusters) < most:
        return None
    return f"{most} is the most that was tried for {output.counted(found.rows, 'row')}; for more, ask with -k"


def sources(found: trunkline.Clusters) -> list[str]:
    """Of the rows that stand for each."""
    return [row.source for cluster in found.clusters for row in cluster.representatives]


def mix(cluster: trunkline.Cluster, most: int) -> str:
    """Its most frequent labels with their shares, in words."""
    shares = [f"{name} {rows / cluster.labelled:.0%}" for name, rows in list(cluster.labels.items())[:most]]
    return ", ".join(shares) if shares else "no labels"


def _print(found: trunkline.Clusters, limit: int) -> None:
    output.say(f"{found.collection}, version {found.version}: {summary(found)}")
    if more := more_words(found):
        output.note(more)
    shown = found.clusters[:limit]
    rows = [
        (
            cluster.number + 1,
            f"{cluster.rows:,}",
            distance_words(cluster.cohesion),
            mix(cluster, _LABELS),
            cluster.representatives[0].id,
        )
        for cluster in shown
    ]
    columns = ("cluster", "rows", "cohesion", "labels", "in its middle")
    if rows:
        output.table(columns, rows, numbers=("cluster", "rows", "cohesion"))
    if left := found.clusters[limit:]:
        rows_left = output.counted(sum(cluster.rows for cluster in left), "row")
        output.hint(
            f"{output.counted(len(left), 'more cluster')} of {rows_left}; --limit, --html FILE or --json shows them"
        )


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
