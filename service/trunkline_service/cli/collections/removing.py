"""trunkline collections delete, purge, drop."""

from __future__ import annotations

import dataclasses

import click

import trunkline
from trunkline.rows import Scalar
from trunkline_service.cli import output
from trunkline_service.cli.collections.group import (
    NO_END,
    asks,
    condition_options,
    confirm,
    one_of,
    scalars,
    yes_option,
)
from trunkline_service.cli.options import Place, place_options

_id_option = click.option(
    "--id", "ids", multiple=True, metavar="ID", help="A row; may be given several times."
)


@click.command(short_help="Delete rows.")
@click.argument("name")
@_id_option
@condition_options
@yes_option
@place_options
def delete(
    name: str, ids: tuple[str, ...], where: str | None, parameters: tuple[str, ...], yes: bool, place: Place
) -> None:
    """Deletes rows of collection NAME. Older versions keep them; 'purge' deletes from those too.

    Example: trunkline collections delete photos --where "status = ?" --param error --yes
    """
    chosen = _chosen(ids, where, parameters)
    with place.client() as client:
        _confirm_rows(client, f"delete {{}} of {name}?", name, chosen, yes)
        done = client.delete(
            name, chosen.ids, where=chosen.where, parameters=chosen.parameters, timeout=NO_END
        )
    if place.json:
        output.print_json({"collection": name, **dataclasses.asdict(done)})
    else:
        output.say(f"{name}, version {done.version}: {output.counted(done.rows, 'row')} deleted")


@click.command(short_help="Delete rows from every version.")
@click.argument("name")
@_id_option
@condition_options
@click.option(
    "--exclusive", is_flag=True, help="No one else is writing: what killed writers left goes as well."
)
@yes_option
@place_options
def purge(
    name: str,
    ids: tuple[str, ...],
    where: str | None,
    parameters: tuple[str, ...],
    exclusive: bool,
    yes: bool,
    place: Place,
) -> None:
    """Deletes rows of collection NAME, and every older version, so that no file holds them any more.

    Example: trunkline collections purge photos --id cats/1.jpg --yes
    """
    chosen = _chosen(ids, where, parameters)
    with place.client() as client:
        _confirm_rows(client, f"purge {{}} of {name}, and all older versions?", name, chosen, yes)
        done = client.purge(
            name,
            chosen.ids,
            where=chosen.where,
            parameters=chosen.parameters,
            exclusive=exclusive,
            timeout=NO_END,
        )
    if place.json:
        output.print_json({"collection": name, **dataclasses.asdict(done)})
        return
    output.say(
        f"{name}: {output.counted(done.rows, 'row')} purged; "
        f"{output.counted(done.versions_removed, 'older version')} removed, "
        f"{done.bytes_freed / 1e6:,.1f} MB freed"
    )
    if done.unowned_files:
        output.warn(
            f"{output.counted(done.unowned_files, 'file')} left of writers that are at work, or were killed lately, "
            "may hold purged rows; where no one else is writing, purge again with --exclusive"
        )


@click.command(short_help="Delete a collection.")
@click.argument("name")
@yes_option
@place_options
def drop(name: str, yes: bool, place: Place) -> None:
    """Deletes collection NAME with all of its versions.

    Example: trunkline collections drop photos --yes
    """
    confirm(f"delete collection {name} with all of its versions?", yes)
    with place.client() as client:
        client.drop_collection(name, timeout=NO_END)
    if place.json:
        output.print_json({"collection": name, "dropped": True})
    else:
        output.say(f"{name} is gone")


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """Rows by id, or by a condition."""

    ids: list[str] | None
    where: str | None
    parameters: list[Scalar]


def _chosen(ids: tuple[str, ...], where: str | None, parameters: tuple[str, ...]) -> _Chosen:
    if one_of(id=ids, where=where) == "id" and parameters:
        raise click.UsageError("--param belongs to --where")
    return _Chosen(list(ids) or None, where, scalars(parameters))


def _confirm_rows(client: trunkline.Client, question: str, name: str, chosen: _Chosen, yes: bool) -> None:
    """Asks with the number of rows, which is counted only where somebody is asked."""
    if yes or not asks():
        confirm(question.format("rows"), yes)
        return
    if chosen.ids is not None:
        count = len(set(chosen.ids))
    else:
        count = sum(map(len, client.scan(name, [], chosen.where, chosen.parameters)))
    confirm(question.format(output.counted(count, "row")), yes)
