"""trunkline collections switch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options

if TYPE_CHECKING:
    from trunkline_service.heads.card import HeadCard


@click.command(short_help="Move heads and aliases to a re-embedded collection.")
@click.argument("old")
@click.argument("new")
@place_options
def switch(old: str, new: str, place: Place) -> None:
    """Fits the heads of collection OLD on NEW, which holds the same rows in another space, and moves OLD's aliases.

    Before, labels, splits and columns that were corrected in OLD are corrected in NEW.
    OLD stays as it is; the same command the other way round goes back.

    Example: trunkline collections switch photos photos-dinov2
    """
    from trunkline_service.workspace import Workspace

    place.only_here("collections switch")
    with Workspace(place.settings()) as workspace:
        done = workspace.switch(old, new)
    if place.json:
        heads = [
            {
                "name": pair.after.name,
                "before": {"version": pair.before.version, "accuracy": _accuracy(pair.before)},
                "after": {"version": pair.after.version, "accuracy": _accuracy(pair.after)},
            }
            for pair in done.heads
        ]
        output.print_json(
            {
                "old": old,
                "new": new,
                "relabelled": done.relabelled,
                "heads": heads,
                "aliases": list(done.aliases),
            }
        )
        return
    if done.relabelled:
        output.say(
            f"{output.counted(done.relabelled, 'row')} of {done.new} took label, split or columns from {done.old}"
        )
    output.say(f"{', '.join(done.aliases) or 'no alias'} moved from {done.old} to {done.new}")
    if done.heads:
        rows = [
            (pair.after.name, f"{_shown(pair.before)} -> {_shown(pair.after)}", pair.after.ref)
            for pair in done.heads
        ]
        output.table(("head", "accuracy, cross-validated", "now"), rows)


def _accuracy(card: HeadCard) -> float | None:
    """Of a head that classifies; None for others."""
    name, value = card.metrics.headline if card.metrics is not None else ("", 0.0)
    return value if name == "accuracy" else None


def _shown(card: HeadCard) -> str:
    if card.metrics is None:
        return "?"
    name, value = card.metrics.headline
    return f"{value:.3f}" if name == "accuracy" else f"{name} {value:.3f}"
