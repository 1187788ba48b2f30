"""trunkline heads promote, rollback, shadow."""

from __future__ import annotations

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.heads.group import described, named_version
from trunkline_service.cli.options import Place, place_options


@click.command(short_help="Let a version serve.")
@click.argument("version", metavar="NAME@VERSION")
@place_options
def promote(version: str, place: Place) -> None:
    """Lets a version serve from now on; running servers pick it up, and drop no request.

    Example: trunkline heads promote flowers@3
    """
    with place.client() as client:
        wanted = named_version(client, version)
        _tell(client.promote_head(wanted.name, wanted.version), place)


@click.command(short_help="Let the version serve that served before.")
@click.argument("name")
@place_options
def rollback(name: str, place: Place) -> None:
    """Takes the last promotion of head NAME back.

    Example: trunkline heads rollback flowers
    """
    with place.client() as client:
        _tell(client.rollback_head(name), place)


@click.command(short_help="Let a candidate run beside the version that serves.")
@click.argument("version", metavar="NAME@VERSION")
@click.option("--off", is_flag=True, help="None any more; NAME alone is enough then.")
@place_options
def shadow(version: str, off: bool, place: Place) -> None:
    """Asks a candidate about every item too, and tells nobody: how often it differs is in the server's metrics.

    Example: trunkline heads shadow flowers@4
    """
    with place.client() as client:
        if off:
            head = client.set_shadow(version.partition("@")[0], None)
        else:
            wanted = named_version(client, version)
            head = client.set_shadow(wanted.name, wanted.version)
    if place.json:
        output.print_json(described(head))
    elif head.shadow is None:
        output.say(f"nothing runs beside {head} any more")
    else:
        output.say(f"{head.name}@{head.shadow} runs beside {head}")
        output.hint("metrics: trunkline_shadow_rows_total, trunkline_shadow_disagreements_total")


def _tell(head: trunkline.HeadInfo, place: Place) -> None:
    if place.json:
        output.print_json(described(head))
    else:
        output.say(f"{head} serves")
