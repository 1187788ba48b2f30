"""trunkline search: its options, and what they lead to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.collections.group import condition_options, scalars
from trunkline_service.cli.options import Number, Place, in_a_folder, place_options
from trunkline_service.cli.search import printing
from trunkline_service.cli.search.queries import Queries, expanded
from trunkline_service.index.options import MAX_K

_ALWAYS = ("id", "label", "source")


def _query_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is searched for."""
    for option in (
        click.option(
            "--space", metavar="NAME", help="The space of these vectors.  [default: the collection's]"
        ),
        click.option(
            "--vector",
            "file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE.npy",
            help="Search for vectors instead, (N, dim).",
        ),
        click.option(
            "--id",
            "ids",
            multiple=True,
            metavar="ID",
            help="Search for a stored row instead; may be given again.",
        ),
    ):
        command = option(command)
    return command


def _names(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of ``price,source``; they may be given in several options.

    Raises:
        click.BadParameter: One has no name, or two have the same.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    if not all(names):
        raise click.BadParameter("a name is empty; give names with a comma between them, e.g. price,source")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise click.BadParameter(f"{', '.join(twice)} is given twice; give each column once")
    return tuple(names)


def _hit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What can be a hit."""
    for option in (
        click.option(
            "--min-version",
            type=click.IntRange(0),
            default=0,
            metavar="N",
            help="Search this version of the collection, or a later one.",
        ),
        click.option(
            "--columns",
            multiple=True,
            callback=_names,
            metavar="NAME,...",
            help="Show these columns of the hits too, e.g. price,source.",
        ),
        click.option("--exact", is_flag=True, help="Compare with every row, whatever the index."),
        click.option(
            "--collapse",
            type=Number(),
            metavar="S",
            help="Fold rows this similar to a better hit into it, e.g. 0.98.",
        ),
        click.option(
            "--per-group", type=int, metavar="N", help="With --group-by: so many of each.  [default: 1]"
        ),
        click.option("--group-by", metavar="COLUMN", help="Only the best of rows that share its value."),
        click.option("--min-score", type=Number(), metavar="S", help="Only hits that score at least this."),
    ):
        command = option(command)
    return command


def _page_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the images are shown."""
    for option in (
        click.option(
            "--root",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            metavar="DIR",
            help="With either: show hits that lie below this folder of this machine.  "
            "[default: anywhere on it; with --server: none]",
        ),
        click.option("--open", "opened", is_flag=True, help="Open the page in a browser."),
        click.option(
            "--html",
            "page",
            type=click.Path(dir_okay=False, path_type=Path),
            callback=in_a_folder,
            metavar="FILE",
            help="Write a page of thumbnails; a file that is there is replaced.",
        ),
    ):
        command = option(command)
    return command


@click.command(short_help="Find the nearest images of a collection.")
@click.argument("images", nargs=-1, type=click.Path(), metavar="[IMAGE]...")
@_query_options
@click.option("--collection", required=True, metavar="C")
@click.option("-k", default=10, show_default=True, help="Neighbours of each, up to 1,000.")
@condition_options
@_hit_options
@_page_options
@place_options
def search(
    images: tuple[str, ...],
    ids: tuple[str, ...],
    file: Path | None,
    space: str | None,
    collection: str,
    columns: tuple[str, ...],
    parameters: tuple[str, ...],
    page: Path | None,
    opened: bool,
    root: Path | None,
    place: Place,
    **wishes: Any,
) -> None:
    """Finds the nearest rows of each IMAGE, of a folder of each image below it.

    Exits with 1 if an image or a row could not be used as a query.

    Example: trunkline search daisy.jpg --collection photos -k 5
    """
    _check(wishes, parameters, root is not None and page is None and not opened)
    queries = Queries(expanded(images), ids, file, space)
    wishes |= {"parameters": scalars(parameters), "per_group": wishes["per_group"] or 1}
    # Every hit has the others without being asked for them.
    wishes["columns"] = [name for name in columns if name not in _ALWAYS]
    with place.client() as client:
        found = queries.search(client, collection, wishes)
        info = client.collection(collection)
        sources = queries.sources(client, collection, found) if page or opened else []
    _say_about(info, bool(images) and not place.json)
    names = queries.names(len(found))
    asked = printing.Asked(
        wishes["where"] is not None, wishes["min_score"], bool(ids), info, columns, wishes["group_by"]
    )
    if place.json:
        output.print_json(printing.documents(names, found, asked))
    else:
        printing.tables(names, found, asked)
    if page is not None or opened:
        from trunkline_service.cli.search.page import Answered, show

        if root is None and place.server is None:
            root = Path("/")
        answered = Answered(found, names, sources, bool(images), info.name, asked)
        show(answered, page, root, opened=opened, quiet=place.json)
    if found.errors:
        raise SystemExit(1)


def _say_about(info: trunkline.CollectionInfo, embeds: bool) -> None:
    """What a user should know of the model; the collection tells it, for a question about the model loads one."""
    if info.declared:
        return
    (output.say_about_model if embeds else output.warn_of_model)(info.model, info.pretrained)


def _check(wishes: dict[str, Any], parameters: tuple[str, ...], root_alone: bool) -> None:
    """Refuses what can be refused before anything is opened."""
    if not 1 <= wishes["k"] <= MAX_K:
        raise click.UsageError(f"-k is {wishes['k']}; it can be 1 to {MAX_K:,}")
    if wishes["per_group"] is not None and not 1 <= wishes["per_group"] <= MAX_K:
        raise click.UsageError(f"--per-group is {wishes['per_group']}; it can be 1 to {MAX_K:,}")
    if wishes["per_group"] is not None and wishes["group_by"] is None:
        raise click.UsageError("--per-group belongs to --group-by")
    if parameters and wishes["where"] is None:
        raise click.UsageError("--param belongs to --where")
    if root_alone:
        raise click.UsageError("--root is about the page of --html FILE or --open; give one of them too")
