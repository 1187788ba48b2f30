"""trunkline collections alias, unalias, aliases."""

from __future__ import annotations

import dataclasses

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options


@click.command(short_help="Make or move an alias.")
@click.argument("alias", metavar="NAME@WORD")
@click.option(
    "--to", "target", required=True, metavar="COLLECTION[@VERSION]", help="A version, or else the latest."
)
@place_options
def alias(alias: str, target: str, place: Place) -> None:
    """Makes an alias, or moves it; readers see the old target or the new one.

    Example: trunkline collections alias photos@prod --to photos-v2
    """
    collection, version = _target(target)
    with place.client() as client:
        made = client.set_alias(alias, collection, version)
    if place.json:
        output.print_json(dataclasses.asdict(made))
    else:
        output.say(f"{made.name} stands for {_words(made)}")


@click.command(short_help="Delete an alias.")
@click.argument("alias", metavar="NAME@WORD")
@place_options
def unalias(alias: str, place: Place) -> None:
    """Deletes an alias; the collection stays.

    Example: trunkline collections unalias photos@prod
    """
    with place.client() as client:
        client.delete_alias(alias)
    if place.json:
        output.print_json({"name": alias, "collection": None})
    else:
        output.say(f"there is no alias {alias} any more")


@click.command(short_help="All aliases.")
@place_options
def aliases(place: Place) -> None:
    """Lists aliases.

    Example: trunkline collections aliases
    """
    with place.client() as client:
        found = client.aliases()
    if place.json:
        output.print_json([dataclasses.asdict(info) for info in found])
    elif found:
        output.table(("alias", "stands for"), [(info.name, _words(info)) for info in found])
    else:
        output.hint("no aliases here yet; 'trunkline collections alias NAME@WORD --to COLLECTION' makes one")


def _target(text: str) -> tuple[str, int | None]:
    collection, at, version = text.partition("@")
    if at and not (version.isascii() and version.isdigit() and int(version)):
        raise click.UsageError(
            f"--to {text}: what stands after the '@' is a version's number, or leave it out"
        )
    return collection, int(version) if at else None


def _words(info: trunkline.AliasInfo) -> str:
    return f"{info.collection}, {'the latest version' if info.version is None else f'version {info.version}'}"
