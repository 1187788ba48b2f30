"""What the commands that look at whole collections share: options, words, and how a page is delivered."""

from __future__ import annotations

import functools
import tempfile
import webbrowser
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import trunkline
from trunkline.explore import Explored
from trunkline.rows import Label
from trunkline_service.cli import output
from trunkline_service.cli.collections.group import scalars
from trunkline_service.cli.options import Place, in_a_folder
from trunkline_service.heads.report.standalone import write_page


@dataclass(frozen=True)
class Pages:
    """Where a page goes.

    Attributes:
        file: ``--html``, or None.
        opened: ``--open``.
        root: ``--root``, or None.
    """

    file: Path | None
    opened: bool
    root: Path | None

    @property
    def wanted(self) -> bool:
        """Whether a page is to be made."""
        return self.file is not None or self.opened

    def root_of(self, place: Place) -> Path | None:
        """The folder below which images may be opened; None opens nothing.

        What a server says of paths is not to be trusted with all files of this machine.
        """
        return Path("/") if self.root is None and place.server is None else self.root

    def deliver(self, page: str, name: str, place: Place, sources: Iterable[str]) -> None:
        """Writes the page and says where; with ``--open`` a browser shows it.

        Args:
            page: HTML.
            name: Of its file, where none was given.
            place: Where the collection is.
            sources: Of the rows that it shows.

        Raises:
            StorageError: The file can't be written.
        """
        path = self.file
        if path is None:
            path = Path(tempfile.mkdtemp(prefix="trunkline-")) / f"{name}.html"
        write_page(page, path, "the page")
        (output.hint if place.json else output.say)(f"wrote {path}")
        if self.root_of(place) is None and any(sources):
            output.hint("it has no images: name the folder of this machine where they lie with --root DIR")
        if self.opened and not webbrowser.open(path.resolve().as_uri()):
            output.warn(f"no browser was found here; open {path} in one")


def page_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --html, --open and --root, and passes them as ``pages``."""

    @click.option(
        "--html",
        "file",
        type=click.Path(dir_okay=False, path_type=Path),
        callback=in_a_folder,
        metavar="FILE",
        help="Write a page with images; a file that is there is replaced.",
    )
    @click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
    @click.option(
        "--root",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="With either: show images that lie below this folder of this machine.  "
        "[default: anywhere on it; with --server: none]",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, file: Path | None, opened: bool, root: Path | None, **rest: Any) -> Any:
        if root is not None and file is None and not opened:
            raise click.UsageError("--root is about the page of --html FILE or --open; give one of them too")
        return command(*args, pages=Pages(file, opened, root), **rest)

    return wrapped


def condition(where: str | None, parameters: tuple[str, ...]) -> dict[str, Any]:
    """--where and --param as a client takes them.

    Raises:
        click.UsageError: Parameters of no condition.
    """
    if parameters and where is None:
        raise click.UsageError("--param belongs to --where")
    return {"where": where, "parameters": scalars(parameters)}


def shown_option(things: str) -> Callable[..., Any]:
    """--limit, how many are printed."""
    return click.option(
        "--limit", default=20, show_default=True, type=click.IntRange(min=0), help=f"{things} to print."
    )


def label_words(label: Label) -> str:
    """A label, or several, in words; empty for none."""
    return ", ".join(label) if isinstance(label, tuple) else label or ""


def row_json(row: trunkline.ExploredRow) -> dict[str, Any]:
    """A row for programs."""
    return {"id": row.id, "label": row.label, "split": row.split, "source": row.source}


def explored_json(found: Explored) -> dict[str, Any]:
    """What all results say."""
    return {
        "collection": found.collection,
        "version": found.version,
        "space_id": found.space_id,
        "metric": found.metric,
        "rows": found.rows,
    }


def distance_words(distance: float) -> str:
    """A distance for people: three decimals, or digits where these would show nothing."""
    return f"{distance:.3f}" if distance == 0 or 0.001 <= abs(distance) < 1e6 else f"{distance:.3g}"


def size_words(size: int | None) -> str:
    """Bytes for people; empty where unknown."""
    if size is None:
        return ""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"
