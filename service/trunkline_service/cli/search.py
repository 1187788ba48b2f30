"""trunkline search."""

from __future__ import annotations

from typing import Any

import click

from trunkline.rows import Label
from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options


@click.command(short_help="Find the nearest images of a collection.")
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("--collection", required=True, metavar="C")
@click.option("-k", default=10, show_default=True, help="Neighbours of each image.")
@click.option("--where", metavar="SQL", help="Only rows that fulfil this, e.g. \"label = 'rose'\".")
@place_options
def search(images: tuple[str, ...], collection: str, k: int, where: str | None, place: Place) -> None:
    """Finds the nearest rows of each IMAGE; exits with 1 if an image could not be used.

    Example: trunkline search daisy.jpg --collection photos -k 5
    """
    if k < 1:
        raise click.UsageError(f"-k is {k}; it must be at least 1")
    with place.client() as client:
        result = client.search(collection, images, k=k, where=where)
        output.say_about(client, client.collection(collection).model)
    failed = {failure.index: failure for failure in result.errors}
    hits: list[list[dict[str, Any]]] = [
        [
            {"id": row_id, "score": float(score), "label": label}
            for row_id, score, label in zip(
                result.ids[row], result.scores[row], result.labels[row], strict=True
            )
        ]
        for row in range(len(images))
    ]
    if place.json:
        output.print_json(
            [
                {"query": source, "error": failed[row].message, "reason": failed[row].reason, "hits": []}
                if row in failed
                else {"query": source, "hits": hits[row]}
                for row, source in enumerate(images)
            ]
        )
    else:
        for row, source in enumerate(images):
            output.say(f"{source}" + (f": failed: {failed[row].message}" if row in failed else ""))
            if row not in failed:
                lines = [(f"{hit['score']:.4f}", _words(hit["label"]), hit["id"]) for hit in hits[row]]
                output.table(("score", "label", "id"), lines, numbers=("score",))
    if failed:
        raise SystemExit(1)


def _words(label: Label) -> str | None:
    return ", ".join(label) if isinstance(label, tuple) else label
