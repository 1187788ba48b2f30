"""trunkline heads alias, unalias."""

from __future__ import annotations

import click

from trunkline_service.cli import output
from trunkline_service.cli.heads.group import described
from trunkline_service.cli.options import Place, place_options


@click.command(short_help="Make or move an alias.")
@click.argument("alias", metavar="NAME@WORD")
@click.option("--to", "version", required=True, type=click.IntRange(1), metavar="VERSION", help="A version.")
@place_options
def alias(alias: str, version: int, place: Place) -> None:
    """Makes an alias of a head's version, or moves it.

    Example: trunkline heads alias flowers@prod --to 3
    """
    with place.client() as client:
        head = client.set_head_alias(alias, version)
    if place.json:
        output.print_json(described(head))
    else:
        output.say(f"{alias} stands for {head}")


@click.command(short_help="Delete an alias.")
@click.argument("alias", metavar="NAME@WORD")
@place_options
def unalias(alias: str, place: Place) -> None:
    """Deletes an alias; its version stays.

    Example: trunkline heads unalias flowers@prod
    """
    with place.client() as client:
        head = client.delete_head_alias(alias)
    if place.json:
        output.print_json(described(head))
    else:
        output.say(f"there is no alias {alias} any more")
