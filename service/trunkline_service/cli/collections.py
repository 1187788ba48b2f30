"""trunkline collections."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options


@click.group(short_help="List, show and export collections.")
def collections() -> None:
    """Stored embeddings."""


@collections.command("list", short_help="All collections.")
@place_options
def list_(place: Place) -> None:
    """Lists collections.

    Example: trunkline collections list
    """
    with place.client() as client:
        found = client.collections()
    if place.json:
        output.print_json([_as_json(info) for info in found])
        return
    if not found:
        output.hint("no collections here yet; 'trunkline embed FOLDER --into NAME' makes one")
        return
    rows = [
        (
            info.name,
            info.rows,
            info.errors,
            info.labelled,
            len(info.labels),
            info.dim,
            info.model,
            info.version,
        )
        for info in found
    ]
    columns = ("collection", "rows", "errors", "labelled", "labels", "dim", "model", "version")
    output.table(columns, rows, numbers=("rows", "errors", "labelled", "labels", "dim", "version"))


@collections.command(short_help="A collection in numbers.")
@click.argument("name")
@place_options
def show(name: str, place: Place) -> None:
    """Shows what collection NAME holds.

    Example: trunkline collections show photos
    """
    with place.client() as client:
        info = client.collection(name)
        output.say_about(client, info.model)
    if place.json:
        output.print_json(_as_json(info))
        return
    output.say(
        f"{info.name}, version {info.version}: {info.rows:,} rows of dim {info.dim}, {info.errors:,} errors, "
        f"{info.labelled:,} labelled\nmodel {info.model}, space {info.space_id}, decode {info.decode}"
    )
    if info.labels:
        output.table(("label", "rows"), info.labels.items(), numbers=("rows",))


@collections.command(short_help="Write a collection to a Parquet file.")
@click.argument("name")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), metavar="FILE.parquet")
@place_options
def export(name: str, target: Path, place: Place) -> None:
    """Writes collection NAME to Parquet: id, embedding, label, status and the rest.

    Example: trunkline collections export photos --to photos.parquet
    """
    from trunkline_service.collections.store import CollectionStore

    place.only_here("collections export")
    rows = CollectionStore(place.settings().data).open(name).export_parquet(target)
    if place.json:
        output.print_json({"collection": name, "rows": rows, "file": str(target)})
    else:
        output.say(f"wrote {rows:,} rows of {name} to {target}")


def _as_json(info: trunkline.CollectionInfo) -> dict[str, object]:
    return {**dataclasses.asdict(info), "labels": dict(info.labels)}
