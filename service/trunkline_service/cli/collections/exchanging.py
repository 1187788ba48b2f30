"""trunkline collections export, import."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trunkline.rows import Scalar
from trunkline_service.cli import output
from trunkline_service.cli.collections.group import condition_options, scalars
from trunkline_service.cli.options import Place, place_options
from trunkline_service.collections.spec import METRICS

if TYPE_CHECKING:
    from trunkline_service.collections.exchange.importing import Imported

_FORMS = (".parquet", ".npy")


@click.command(short_help="Write a collection to a Parquet or NumPy file.")
@click.argument("name")
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="FILE.parquet: every column. FILE.npy: vectors alone, and FILE.npy.ids.txt.",
)
@click.option("--since", type=click.IntRange(min=1), metavar="V", help="Only what changed after version V.")
@condition_options
@place_options
def export(
    name: str,
    target: Path,
    since: int | None,
    where: str | None,
    parameters: tuple[str, ...],
    place: Place,
) -> None:
    """Writes collection NAME to Parquet (id, embedding, label, status and the rest), or its vectors to NumPy.

    NAME@VERSION and NAME@TAG write an older version.

    Example: trunkline collections export photos --to photos.parquet
    """
    _check_form(target, "--to")
    if since is not None and target.suffix == ".npy":
        raise click.UsageError("--since tells upserts from deletes, which needs columns: write FILE.parquet")
    if place.server is None:
        rows = _export_here(name, target, since, where, scalars(parameters), place)
    elif since is not None:
        raise click.UsageError(
            "'collections export --since' works on folders of this machine and has no --server yet; "
            "run it where --data is"
        )
    else:
        from trunkline_service.cli.collections import remote_export

        write = remote_export.write_npy if target.suffix == ".npy" else remote_export.write_parquet_file
        with place.client() as client:
            rows = write(client, name, target, where, scalars(parameters))
    if place.json:
        output.print_json({"collection": name, "rows": rows, "file": str(target)})
    else:
        output.say(f"wrote {output.counted(rows, 'row')} of {name} to {target}")


@click.command("import", short_help="Read a Parquet or NumPy file into a collection.")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--into", required=True, metavar="NAME", help="Made if it does not exist.")
@click.option(
    "--ids",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With FILE.npy: its ids, one a line.  [default: FILE.npy.ids.txt]",
)
@click.option(
    "--space",
    metavar="NAME",
    help="The space of vectors that Trunkline did not make; any name, always the same.",
)
@click.option(
    "--metric",
    type=click.Choice(METRICS),
    help="How the vectors of a new collection are compared.  [default: the file's, or cosine]",
)
@place_options
def import_(
    source: Path, into: str, ids: Path | None, space: str | None, metric: str | None, place: Place
) -> None:
    """Reads FILE (.parquet with the columns id and embedding, or .npy) into a collection.

    Example: trunkline collections import clip.parquet --into photos-clip --space clip-vit-b32
    """
    from trunkline_service.cli.collections.remote_store import RemoteStore
    from trunkline_service.collections.exchange.importing import import_npy, import_parquet
    from trunkline_service.collections.store import CollectionStore

    _check_form(source, "FILE")
    if source.suffix == ".npy" and space is None:
        raise click.UsageError(
            f"{source} does not say which space its vectors lie in; declare it: --space NAME"
        )
    if source.suffix != ".npy" and ids is not None:
        raise click.UsageError("--ids belongs to FILE.npy; a Parquet file has a column id")

    def read(store: CollectionStore) -> Imported:
        if source.suffix == ".npy":
            assert space is not None
            return import_npy(store, source, ids or _ids_of(source), into, space, metric=metric)
        return import_parquet(store, source, into, space_id=space, metric=metric)

    if place.server is None:
        _report(source, read(CollectionStore(place.settings().data)), place)
        return
    with place.client() as client:
        # As much of a store as an import asks for.
        _report(source, read(RemoteStore(client)), place)  # type: ignore[arg-type]


def _export_here(
    name: str,
    target: Path,
    since: int | None,
    where: str | None,
    parameters: list[Scalar],
    place: Place,
) -> int:
    from trunkline_service.collections.store import CollectionStore

    collection, version = CollectionStore(place.settings().data).resolve(name)
    if target.suffix == ".npy":
        return collection.export_npy(target, where, parameters, version)
    return collection.export_parquet(target, since=since, where=where, parameters=parameters, version=version)


def _report(source: Path, done: Imported, place: Place) -> None:
    if place.json:
        output.print_json(dataclasses.asdict(done))
        return
    made = " (made for it)" if done.created else ""
    errors = f", {done.errors:,} as error rows" if done.errors else ""
    output.say(
        f"{done.collection}{made}, version {done.version}: {output.counted(done.rows, 'row')} of {source} stored"
        f"{errors}"
    )


def _ids_of(matrix: Path) -> Path:
    """The file of ids that an export writes beside a matrix."""
    found = [
        path for form in ("txt", "jsonl") if (path := matrix.with_name(f"{matrix.name}.ids.{form}")).is_file()
    ]
    if len(found) != 1:
        raise click.UsageError(f"give the ids of {matrix}: --ids FILE, one id a line")
    return found[0]


def _check_form(path: Path, what: str) -> None:
    if path.suffix not in _FORMS:
        raise click.UsageError(f"{what} is {str(path)!r}; its name must end in {' or '.join(_FORMS)}")
