"""trunkline heads list, show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.heads.group import described, figure
from trunkline_service.cli.options import Place, place_options
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.serving.unknown import CARD_QUANTILE

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
    card = HeadCard.from_json(head.card)
    output.pairs(
        [
            ("head", str(head)),
            ("kind", f"{head.kind}, {head.task}"),
            ("space", head.space_id),
            ("model", head.model),
            *_origin(head, card),
            ("hyper-parameters", _plain(card.hyper_parameters)),
            ("temperature", f"{card.temperature:.4g}"),
            ("distance", _bound(card)),
            ("classes" if head.task != "regression" else "values", _some(head.classes)),
            ("versions", _roles(head)),
            ("fitted", card.created_at),
            ("notes", "; ".join(card.notes)),
        ]
    )


def _some(classes: tuple[str, ...]) -> str:
    more = len(classes) - _SHOWN
    return ", ".join(classes[:_SHOWN]) + (f" and {more} more (--json shows them)" if more > 0 else "")


def _plain(parameters: Mapping[str, Any]) -> str:
    """The single values, rounded; what was tried beside them is in the JSON."""
    single = {name: value for name, value in parameters.items() if isinstance(value, (bool, int, float, str))}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in single.items()
    )


def _bound(card: HeadCard) -> str:
    most = card.distance_quantiles.get(CARD_QUANTILE)
    return "" if most is None else f"99% of held-out rows are nearer than {most:.4g}"


def _origin(head: trunkline.HeadInfo, card: HeadCard) -> list[tuple[str, str]]:
    if not head.collection:
        return [("learned from", "nothing here: it is the network's own last layer")]
    rows = output.counted(card.rows, "row")
    found = [
        ("collection", f"{head.collection} version {head.collection_version}, {rows}, column {card.target}"),
        ("groups", card.group),
    ]
    if card.metrics is not None and card.metrics.folds == 1:
        found.append(("validation split", f"{figure(head)} on {output.counted(card.metrics.n, 'row')}"))
    elif card.metrics is not None:
        found.append(("out of fold", f"{figure(head)} over {card.metrics.folds} folds"))
    if card.test_metrics is not None:
        name, value = card.test_metrics.headline
        tested = output.counted(card.test_metrics.n, "row")
        found.append(("test split", f"{name} {value:.3f} on {tested} of split {card.test_split!r}"))
    return found


def _roles(head: trunkline.HeadInfo) -> str:
    """``"1, 2 (serves, prod), 3 (shadow), 4 (candidate)"``; what is older than the serving version has served."""
    named: dict[int, list[str]] = {version: [] for version in head.versions}
    if head.serving in named:
        named[head.serving].append("serves")
    for alias, version in sorted(head.aliases.items()):
        named.setdefault(version, []).append(alias)
    if head.shadow in named:
        named[head.shadow].append("shadow")
    for version, roles in named.items():
        if not roles and (head.serving is None or version > head.serving):
            roles.append("candidate")
    return ", ".join(
        f"{version} ({', '.join(roles)})" if roles else str(version)
        for version, roles in sorted(named.items())
    )
