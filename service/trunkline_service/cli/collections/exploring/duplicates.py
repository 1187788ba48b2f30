"""trunkline collections duplicates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.collections.exploring.duplicates_words import (
    chain_words,
    concerns,
    how,
    is_chain,
    look_alikes,
    score_words,
    summary,
)
from trunkline_service.cli.collections.exploring.shared import (
    Pages,
    condition,
    explored_json,
    label_words,
    page_options,
    row_json,
    shown_option,
    size_words,
)
from trunkline_service.cli.collections.group import NO_END, condition_options, confirm, yes_option
from trunkline_service.cli.heads.group import stages
from trunkline_service.cli.options import Place, place_options
from trunkline_service.errors import NotEnoughData

_SHOWN_ROWS = 12
# What says only how the groups are shown.
_SHOWING = ("--limit", "--html", "--open", "--root")


@click.command(short_help="Find rows that are nearly the same.")
@click.argument("name")
@click.option(
    "--threshold",
    type=float,
    metavar="S",
    help="The least similarity of a pair: a cosine.  [default: 0.97]  With the metric euclidean: minus the "
    "largest distance.",
)
@click.option("--exact", is_flag=True, help="Compare all with all, also above 100,000 rows.")
@condition_options
@shown_option("Groups")
@page_options
@click.option(
    "--delete",
    "--keep-best",
    "delete",
    is_flag=True,
    help="Delete what is within the threshold of a row to keep, of all groups whose labels agree.",
)
@click.option(
    "--include-conflicts", "conflicts", is_flag=True, help="With --delete: of those whose labels differ, too."
)
@yes_option
@place_options
def duplicates(
    name: str,
    threshold: float | None,
    exact: bool,
    where: str | None,
    parameters: tuple[str, ...],
    limit: int,
    pages: Pages,
    delete: bool,
    conflicts: bool,
    yes: bool,
    place: Place,
) -> None:
    """Finds near duplicates in collection NAME, in groups, and says which row of each to keep.

    Of each group it keeps the best row: with a label before without, the larger file before a smaller one,
    the older row before a newer one. It also keeps every row that is not within the threshold of a better one
    that is kept: of a chain of look-alikes several rows stay. Groups whose labels differ come to light here
    too: which label is right is for people to say, so that --delete leaves them alone.

    Groups of the nearest pairs come first, so that exact copies lead.

    Example: trunkline collections duplicates photos --threshold 0.98 --html duplicates.html
    """
    if yes and not delete:
        raise click.UsageError("--yes belongs to --delete")
    if conflicts and not delete:
        raise click.UsageError("--include-conflicts belongs to --delete")
    chosen = condition(where, parameters)
    with place.client() as client:
        with stages(place.json) as progress:
            found = client.duplicates(name, threshold, **chosen, exact=exact, progress=progress)
        if not found.rows:
            raise _no_rows(found, where is not None)
        if not place.json:
            _print(found, limit)
        if threshold is None and (doubt := look_alikes(found)):
            output.warn(doubt)
        if pages.wanted:
            from trunkline_service.cli.collections.exploring.duplicates_page import render

            sources = (entry.row.source for group in found.groups for entry in group.rows)
            pages.deliver(render(found, pages.root_of(place)), "duplicates", place, sources)
        choice = Choice.of(found, conflicts)
        done = _delete(client, name, choice, limit, yes) if delete and choice.ids else None
    if delete and choice.left:
        output.note(
            f"{output.counted(choice.left, 'group')} whose labels differ left alone; look at them, or add "
            "--include-conflicts"
        )
    if place.json:
        output.print_json(output.single(_document(found, done, choice.left if delete else 0)))
    elif done is not None:
        output.say(f"{name}, version {done.version}: {output.counted(done.rows, 'row')} deleted")
    elif choice.ids and not delete:
        again = output.same_command("--delete", without=_SHOWING)
        left = (
            f", and leave alone {output.counted(choice.left, 'group')} whose labels differ"
            if choice.left
            else ""
        )
        output.hint(f"to delete all but the rows to keep{left}: {again}")


@dataclass(frozen=True)
class Choice:
    """What is deleted.

    Attributes:
        ids: Of rows.
        groups: How many these are of.
        left: Groups that are left alone since their labels differ.
    """

    ids: tuple[str, ...]
    groups: int
    left: int

    @classmethod
    def of(cls, found: trunkline.Duplicates, conflicts: bool) -> Choice:
        """Of all groups, or those whose labels agree."""
        chosen = [group for group in found.groups if conflicts or not group.labels_differ]
        ids = [entry.row.id for group in chosen for entry in group.rows if not entry.keep]
        return cls(tuple(ids), len(chosen), len(found.groups) - len(chosen))


def _no_rows(found: trunkline.Duplicates, filtered: bool) -> NotEnoughData:
    takes = "near duplicates take at least one"
    if filtered:
        return NotEnoughData(f"no rows of collection {found.collection!r} meet the condition; {takes}")
    return NotEnoughData(f"collection {found.collection!r} has no rows with a vector; {takes}")


def _print(found: trunkline.Duplicates, limit: int) -> None:
    output.say(f"{found.collection}, version {found.version}: {summary(found)}")
    for concern in concerns(found):
        output.note(concern)
    shown = found.groups[:limit]
    if shown:
        _print_table(found, shown)
    if len(found.groups) > len(shown):
        output.hint(
            f"{len(found.groups) - len(shown):,} more groups; --limit, --html FILE or --json shows them"
        )
    output.hint(how(found))


def _print_table(found: trunkline.Duplicates, shown: Sequence[trunkline.DuplicateGroup]) -> None:
    # A column that says nothing of any row is left out.
    split = any(entry.row.split is not None for group in shown for entry in group.rows)
    columns = ["group", "", "score", "like", "label", *(["split"] if split else []), "size", "id"]
    lines: list[tuple[Any, ...]] = []
    for number, group in enumerate(shown, 1):
        for at, entry in enumerate(group.rows[:_SHOWN_ROWS]):
            lines.append((number if at == 0 else "", *_cells(entry, split)))
        if len(group.rows) > _SHOWN_ROWS:
            lines.append(_remark(f"and {len(group.rows) - _SHOWN_ROWS:,} more", len(columns)))
        if is_chain(group):
            lines.append(_remark(f"({chain_words(group, found.threshold)})", len(columns)))
    output.table(columns, lines, numbers=("group", "score", "size"))


def _remark(words: str, columns: int) -> tuple[str, ...]:
    """A line of the table that stands in the column of the ids."""
    return (*[""] * (columns - 1), words)


def _cells(entry: trunkline.DuplicateRow, split: bool) -> tuple[Any, ...]:
    row = entry.row
    return (
        "keep" if entry.keep else "",
        "" if entry.score is None else score_words(entry.score),
        entry.like,
        label_words(row.label),
        *((row.split,) if split else ()),
        size_words(row.size),
        row.id,
    )


def _delete(client: trunkline.Client, name: str, choice: Choice, limit: int, yes: bool) -> trunkline.Written:
    groups = output.counted(choice.groups, "group")
    unseen = f", also those that --limit {limit} does not show" if limit < choice.groups + choice.left else ""
    confirm(f"delete {output.counted(len(choice.ids), 'row')} of {name}, of {groups}{unseen}?", yes)
    return client.delete(name, choice.ids, timeout=NO_END)


def _document(found: trunkline.Duplicates, done: trunkline.Written | None, left: int) -> dict[str, Any]:
    return {
        **explored_json(found),
        "threshold": found.threshold,
        "exact": found.exact,
        "recall": found.recall,
        "recall_pairs": found.recall_pairs,
        "pair_count": found.pair_count,
        "pairs": [dataclasses.asdict(pair) for pair in found.pairs],
        "groups": [
            {
                "labels_differ": group.labels_differ,
                "splits_differ": group.splits_differ,
                "rows": [
                    {
                        **row_json(entry.row),
                        "size": entry.row.size,
                        "keep": entry.keep,
                        "like": entry.like,
                        "score": entry.score,
                    }
                    for entry in group.rows
                ],
            }
            for group in found.groups
        ],
        "deleted": 0 if done is None else done.rows,
        "conflicts_left": left,
    }
