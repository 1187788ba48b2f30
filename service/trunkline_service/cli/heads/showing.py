"""trunkline heads list, show."""

from __future__ import annotations

import json

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.heads.group import described, figure
from trunkline_service.cli.options import Place, place_options

_SHOWN = 20


@click.command("list", short_help="All heads.")
@place_options
def list_(place: Place) -> None:
    """Lists heads, each at the version that serves.

    Example: trunkline heads list
    """
    with place.client() as client:
        found = client.heads()
    if place.json:
        output.print_json([described(head) for head in found])
        return
    if not found:
        output.hint("no heads here yet; 'trunkline heads fit COLLECTION --name NAME' makes one")
        return
    rows = [
        (
            str(head),
            head.kind,
            head.task,
            len(head.classes),
            figure(head),
            f"{head.collection} version {head.collection_version}" if head.collection else "none",
            head.model,
            _roles(head),
        )
        for head in found
    ]
    columns = ("head", "kind", "task", "classes", "figure", "collection", "model", "versions")
    output.table(columns, rows, numbers=("classes",))


@click.command(short_help="The card of a head.")
@click.argument("name")
@place_options
def show(name: str, place: Place) -> None:
    """Prints the card of head NAME, NAME@VERSION or NAME@ALIAS.

    Example: trunkline heads show flowers
    """
    with place.client() as client:
        head = client.head(name)
    if place.json:
        output.print_json(described(head))
        return
    card = head.card
    output.table(
        ("", ""),
        [
            ("head", str(head)),
            ("kind", f"{head.kind}, {head.task}"),
            ("space", head.space_id),
            ("model", head.model),
            *_origin(head),
            ("hyper-parameters", json.dumps(card.get("hyper_parameters", {}))),
            ("classes" if head.task != "regression" else "values", _some(head.classes)),
            ("versions", _roles(head)),
            ("fitted", card.get("created_at")),
            ("notes", "; ".join(card.get("notes", ()))),
        ],
    )


def _some(classes: tuple[str, ...]) -> str:
    more = len(classes) - _SHOWN
    return ", ".join(classes[:_SHOWN]) + (f" and {more} more (--json shows them)" if more > 0 else "")


def _origin(head: trunkline.HeadInfo) -> list[tuple[str, str]]:
    if not head.collection:
        return [("learned from", "nothing here: it is the network's own last layer")]
    rows = output.counted(head.card.get("rows", 0), "row")
    where = f"{head.collection} version {head.collection_version}, {rows}, column {head.card.get('target')}"
    folds = (head.card.get("metrics") or {}).get("folds")
    return [("collection", where), ("out of fold", f"{figure(head)} over {folds} folds")]


def _roles(head: trunkline.HeadInfo) -> str:
    """``"1, 2 (serves, prod), 3 (shadow)"``."""
    named: dict[int, list[str]] = {version: [] for version in head.versions}
    if head.serving in named:
        named[head.serving].append("serves")
    for alias, version in sorted(head.aliases.items()):
        named.setdefault(version, []).append(alias)
    if head.shadow in named:
        named[head.shadow].append("shadow")
    return ", ".join(
        f"{version} ({', '.join(roles)})" if roles else str(version)
        for version, roles in sorted(named.items())
    )
