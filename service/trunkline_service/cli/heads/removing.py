"""trunkline heads drop."""

from __future__ import annotations

import click

from trunkline_service.cli import output
from trunkline_service.cli.collections.group import confirm, yes_option
from trunkline_service.cli.options import Place, place_options


@click.command(short_help="Delete a version, or a whole head.")
@click.argument("name", metavar="NAME[@VERSION]")
@yes_option
@place_options
def drop(name: str, yes: bool, place: Place) -> None:
    """Deletes a version that has no role, or head NAME with all of its versions and aliases.

    Example: trunkline heads drop flowers@2 --yes
    """
    what = f"version {name}" if "@" in name else f"head {name} with all of its versions"
    confirm(f"delete {what}?", yes)
    with place.client() as client:
        client.delete_head(name)
    if place.json:
        output.print_json({"head": name, "dropped": True})
    else:
        output.say(f"{name} is gone")
