"""trunkline collections versions, tag, untag, restore, compact."""

from __future__ import annotations

import dataclasses

import click

from trunkline_service.cli import output
from trunkline_service.cli.collections.group import NO_END, confirm, yes_option
from trunkline_service.cli.options import Place, place_options

_DAY_S = 86_400


@click.command(short_help="The versions of a collection.")
@click.argument("name")
@place_options
def versions(name: str, place: Place) -> None:
    """Lists the versions of collection NAME that can be read, newest first.

    Example: trunkline collections versions photos
    """
    with place.client() as client:
        found = client.versions(name)
    if place.json:
        output.print_json(
            [{**dataclasses.asdict(info), "created_at": info.created_at.isoformat()} for info in found]
        )
        return
    rows = [
        (info.version, output.moment(info.created_at), f"{info.rows:,}", ", ".join(info.tags))
        for info in found
    ]
    output.table(("version", "committed", "rows", "tags"), rows, numbers=("version", "rows"))


@click.command(short_help="Give a version a name.")
@click.argument("name")
@click.argument("word", metavar="TAG")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="[default: the latest]")
@place_options
def tag(name: str, word: str, version: int | None, place: Place) -> None:
    """Names a version of collection NAME, or moves the name there; a tagged version stays until it is untagged.

    Example: trunkline collections tag photos reviewed --version 7
    """
    with place.client() as client:
        tagged = client.tag(name, word, version)
    if place.json:
        output.print_json({"collection": name, "tag": word, "version": tagged})
    else:
        output.say(f"{name}@{word} is version {tagged}")


@click.command(short_help="Take a version's name away.")
@click.argument("name")
@click.argument("word", metavar="TAG")
@place_options
def untag(name: str, word: str, place: Place) -> None:
    """Takes a tag from collection NAME; the version stays until 'compact' removes it.

    Example: trunkline collections untag photos reviewed
    """
    with place.client() as client:
        client.untag(name, word)
    if place.json:
        output.print_json({"collection": name, "tag": word, "version": None})
    else:
        output.say(f"{name} has no tag {word} any more")


@click.command(short_help="Make an old version the latest.")
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@yes_option
@place_options
def restore(name: str, version: int, yes: bool, place: Place) -> None:
    """Writes the rows of VERSION of collection NAME as its latest version; those between stay.

    Example: trunkline collections restore photos 7
    """
    confirm(f"make version {version} the latest of {name}?", yes)
    with place.client() as client:
        made = client.restore(name, version, timeout=NO_END)
    if place.json:
        output.print_json({"collection": name, "restored": version, "version": made})
    else:
        output.say(f"{name}: version {made} has the rows of version {version}")


@click.command(short_help="Merge small files, remove old versions.")
@click.argument("name")
@click.option("--keep-days", type=click.FloatRange(min=0), help="Younger versions stay.  [default: 7]")
@click.option("--keep-all", is_flag=True, help="Every version stays; nothing is freed.")
@place_options
def compact(name: str, keep_days: float | None, keep_all: bool, place: Place) -> None:
    """Merges the small files of collection NAME, and removes old versions that no tag and no alias names.

    Example: trunkline collections compact photos --keep-days 30
    """
    if keep_all and keep_days is not None:
        raise click.UsageError("--keep-all and --keep-days contradict each other; give one of them")
    seconds = None if keep_days is None else keep_days * _DAY_S
    with place.client() as client:
        done = client.compact(name, keep_seconds=seconds, keep_all=keep_all, timeout=NO_END)
    if place.json:
        output.print_json({"collection": name, **dataclasses.asdict(done)})
        return
    output.say(
        f"{name}, version {done.version}: {output.counted(done.fragments_before, 'piece')} became "
        f"{done.fragments_after}; "
        f"{output.counted(done.versions_removed, 'old version')} removed, {done.bytes_freed / 1e6:,.1f} MB freed"
    )
