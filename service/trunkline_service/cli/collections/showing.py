"""trunkline collections list, show, get."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import click

import trunkline
from trunkline.rows import Scalar
from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options
from trunkline_service.collections.schema import COLUMNS


@click.command("list", short_help="All collections.")
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
            f"{info.rows:,}",
            f"{info.errors:,}",
            f"{info.labelled:,}",
            f"{len(info.labels):,}",
            info.dim,
            _maker(info),
            info.version,
            ", ".join(info.aliases),
        )
        for info in found
    ]
    columns = ("collection", "rows", "errors", "labelled", "labels", "dim", "model", "version", "aliases")
    output.table(columns, rows, numbers=("rows", "errors", "labelled", "labels", "dim", "version"))


@click.command(short_help="A collection in numbers.")
@click.argument("name")
@place_options
def show(name: str, place: Place) -> None:
    """Shows what collection NAME holds; NAME@VERSION or NAME@TAG for an older version.

    Example: trunkline collections show photos
    """
    with place.client() as client:
        info = client.collection(name)
    if not info.declared:
        output.warn_of_model(info.model, info.pretrained)
    if place.json:
        output.print_json(_as_json(info))
        return
    many = ", several labels a row" if info.multi_label else ""
    output.say(
        f"{info.name}, version {info.version}: {output.counted(info.rows, 'row')} of dim {info.dim}, "
        f"{output.counted(info.errors, 'error')}, "
        f"{info.labelled:,} labelled{many}\n"
        f"model {_maker(info)}, space {info.space_id}, decode {info.decode}, stored as {info.dtype}, "
        f"compared by {info.metric}, "
        f"{info.size_bytes / 1e6:,.1f} MB"
    )
    own = [f"{column} ({kind})" for column, kind in info.columns.items() if column not in COLUMNS]
    if own:
        output.say(f"own columns: {', '.join(own)}")
    if info.aliases:
        output.say(f"aliases: {', '.join(info.aliases)}")
    if info.labels:
        rows = [(label, f"{count:,}") for label, count in info.labels.items()]
        output.table(("label", "rows"), rows, numbers=("rows",))


@click.command(short_help="Rows by id.")
@click.argument("name")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--vectors", is_flag=True, help="With --json: the vectors too.")
@place_options
def get(name: str, ids: tuple[str, ...], vectors: bool, place: Place) -> None:
    """Shows rows of collection NAME; NAME@VERSION or NAME@TAG for an older version.

    Example: trunkline collections get photos cats/1.jpg cats/2.jpg
    """
    with place.client() as client:
        rows = client.rows(name, ids, vectors=vectors)
    found = [_row(rows, index) for index in range(len(rows))]
    if place.json:
        output.print_json(found)
        return
    own = sorted({column for row in found for column in row["metadata"]})
    columns = ("id", "label", "split", "status", "source", "error")
    output.table(
        (*columns, *own),
        [
            (
                *(_words(row[column]) for column in columns),
                *(_words(row["metadata"].get(name)) for name in own),
            )
            for row in found
        ],
    )


def _row(rows: trunkline.Rows, index: int) -> dict[str, Any]:
    moment = rows.embedded_at[index]
    vector = {} if rows.vectors is None else {"embedding": _vector(rows, index)}
    return {
        "id": rows.ids[index],
        "label": rows.labels[index],
        "split": rows.splits[index],
        "source": rows.sources[index],
        "status": rows.statuses[index],
        "error": rows.errors[index],
        "decode": rows.decodes[index],
        "content_hash": rows.content_hashes[index],
        "etag": rows.etags[index],
        "size": rows.sizes[index],
        "mtime": rows.mtimes[index],
        "job": rows.jobs[index],
        "embedded_at": None if moment is None else moment.isoformat(),
        "metadata": {name: _plain(value) for name, value in rows.metadata[index].items()},
        **vector,
    }


def _vector(rows: trunkline.Rows, index: int) -> list[float] | None:
    assert rows.vectors is not None
    return rows.vectors[index].tolist() if rows.statuses[index] == "ok" else None


def _plain(value: Scalar) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _words(value: object) -> object:
    return ", ".join(value) if isinstance(value, tuple) else value


def _maker(info: trunkline.CollectionInfo) -> str:
    return info.model or "(declared)"


def _as_json(info: trunkline.CollectionInfo) -> dict[str, object]:
    values = dataclasses.asdict(info)
    return {**values, "created_at": info.created_at and info.created_at.isoformat()}
