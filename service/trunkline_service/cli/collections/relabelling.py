"""trunkline collections relabel."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.collections.group import NO_END, condition_options, one_of, scalars
from trunkline_service.cli.options import Place, place_options
from trunkline_service.errors import InvalidArgument

_IDS_PER_QUESTION = 1024


@click.command(short_help="Set or take away labels.")
@click.argument("name")
@click.option(
    "--from",
    "corrections",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="Columns id and label; an empty label takes the label away.",
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="A row; may be given several times.")
@condition_options
@click.option("--label", "labels", multiple=True, metavar="L", help="Several times: a list, if multi-label.")
@click.option("--unlabel", is_flag=True, help="Take the label away.")
@click.option(
    "--separator", default="|", show_default=True, help="Between the labels of one row, if multi-label."
)
@click.option("--skip-unknown", is_flag=True, help="Pass over ids that have no row.")
@place_options
def relabel(
    name: str,
    corrections: Path | None,
    ids: tuple[str, ...],
    where: str | None,
    parameters: tuple[str, ...],
    labels: tuple[str, ...],
    unlabel: bool,
    separator: str,
    skip_unknown: bool,
    place: Place,
) -> None:
    """Sets labels of collection NAME: by a CSV file, by id, or by a condition.

    Ids that have no row are listed, and nothing is written, unless --skip-unknown is given.

    Example: trunkline collections relabel photos --id cats/1.jpg --label dog
    """
    kind = one_of(**{"from": corrections, "id": ids, "where": where})
    _check_labels(kind, labels, unlabel, parameters)
    with place.client() as client:
        multi_label = client.collection(name).multi_label
        if kind == "where":
            assert where is not None
            value = _label(labels, multi_label)
            done = client.relabel(
                name, label=value, where=where, parameters=scalars(parameters), timeout=NO_END
            )
            unknown: list[str] = []
        else:
            changes = _changes(corrections, ids, labels, multi_label, separator)
            unknown = _unknown(client, name, list(changes))
            if unknown and not skip_unknown:
                _refuse(name, unknown, place)
            done = client.relabel(name, changes, timeout=NO_END)
    if place.json:
        output.print_json({"collection": name, **dataclasses.asdict(done), "unknown": unknown})
        return
    passed = f"; passed over, having no row: {output.counted(len(unknown), 'id')}" if unknown else ""
    output.say(f"{name}, version {done.version}: {output.counted(done.rows, 'row')} relabelled{passed}")


def read_corrections(path: Path) -> dict[str, str | None]:
    """Labels by id from a CSV file with a header; None for an empty label.

    Raises:
        InvalidArgument: Not such a file, a row without an id, or an id with two labels; names the line.
    """
    found: dict[str, str | None] = {}
    try:
        # Spreadsheets begin their files with a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            if not {"id", "label"} <= set(header):
                raise InvalidArgument(
                    f"{path} needs the columns id and label in its first line; it has {', '.join(header) or 'none'}"
                )
            for record in reader:
                row_id, label = record["id"], record["label"]
                if not row_id or label is None:
                    raise InvalidArgument(
                        f"{path}, line {reader.line_num}: no id, or no label column; mend the line"
                    )
                if found.setdefault(row_id, label or None) != (label or None):
                    raise InvalidArgument(
                        f"{path}, line {reader.line_num}: id {row_id!r} stands there twice with different labels"
                    )
    except (csv.Error, UnicodeDecodeError) as exc:
        raise InvalidArgument(f"{path} can't be read as CSV in UTF-8: {exc}") from exc
    return found


def _check_labels(kind: str, labels: tuple[str, ...], unlabel: bool, parameters: tuple[str, ...]) -> None:
    if kind == "from":
        if labels or unlabel:
            raise click.UsageError("--from brings its labels; leave --label and --unlabel out")
    else:
        one_of(label=labels, unlabel=unlabel)
    if parameters and kind != "where":
        raise click.UsageError("--param belongs to --where")


def _label(labels: tuple[str, ...], multi_label: bool) -> str | tuple[str, ...] | None:
    if not labels:
        return None
    if multi_label:
        return labels
    if len(labels) > 1:
        raise click.UsageError(f"the collection holds one label a row; {len(labels)} were given")
    return labels[0]


def _changes(
    corrections: Path | None, ids: tuple[str, ...], labels: tuple[str, ...], multi_label: bool, separator: str
) -> dict[str, str | tuple[str, ...] | None]:
    if corrections is None:
        return dict.fromkeys(ids, _label(labels, multi_label))
    if multi_label and not separator:
        raise click.UsageError("--separator is empty; give the sign between two labels")
    return {
        row_id: tuple(label.split(separator)) if multi_label and label is not None else label
        for row_id, label in read_corrections(corrections).items()
    }


def _unknown(client: trunkline.Client, name: str, ids: list[str]) -> list[str]:
    """The ids that have no row, in their order."""
    known: set[str] = set()
    for start in range(0, len(ids), _IDS_PER_QUESTION):
        part = ids[start : start + _IDS_PER_QUESTION]
        where = f"id IN ({','.join('?' * len(part))})"
        known.update(row_id for rows in client.scan(name, [], where, part) for row_id in rows.ids)
    return [row_id for row_id in ids if row_id not in known]


def _refuse(name: str, unknown: list[str], place: Place) -> None:
    """Lists the ids, and ends the command.

    Raises:
        SystemExit: Always, with 1.
    """
    if place.json:
        output.print_json({"collection": name, "rows": 0, "unknown": unknown})
    else:
        output.table((f"ids that have no row in {name}",), [(row_id,) for row_id in unknown])
    output.hint(
        f"{output.counted(len(unknown), 'id')} without a row, so nothing was written; --skip-unknown passes over such"
    )
    raise SystemExit(1)
