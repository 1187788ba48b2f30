"""trunkline collections duplicates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.collections.exploring.shared import (
    Pages,
    condition,
    explored_json,
    label_words,
    nothing,
    page_options,
    row_json,
    size_words,
)
from trunkline_service.cli.collections.group import NO_END, condition_options, confirm, yes_option
from trunkline_service.cli.heads.group import stages
from trunkline_service.cli.options import Place, place_options

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
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=0), help="Groups to print.")
@page_options
@click.option(
    "--delete",
    "--keep-best",
    "delete",
    is_flag=True,
    help="Delete all but the rows to keep, of all groups whose labels agree.",
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

    It keeps the row with a label before one without, the larger file before a smaller one, the older row
    before a newer one. Groups whose labels differ come to light here too: which label is right is for people
    to say, so that --delete leaves them alone.

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
        if not place.json and not found.rows:
            output.say(
                f"{found.collection}, version {found.version}: {nothing(client, name, where is not None)}"
            )
        elif not place.json:
            _print(found, limit)
        if pages.wanted:
            from trunkline_service.cli.collections.exploring.duplicates_page import render

            pages.deliver(render(found, pages.root_of(place)), "duplicates", place)
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


def how(found: trunkline.Duplicates) -> str:
    """What was compared, in a sentence."""
    if found.exact:
        return f"every one of {output.counted(found.rows, 'row')} was compared with every other one"
    measured = "which a sample found no pairs to measure by"
    if found.recall is not None:
        measured = (
            f"which found {found.recall:.1%} of {output.counted(found.recall_pairs, 'pair')} of a sample"
        )
    return (
        f"of {output.counted(found.rows, 'row')} those near each other were compared, {measured}; "
        "--exact compares all"
    )


def summary(found: trunkline.Duplicates) -> str:
    """What was found, in a sentence."""
    if not found.groups:
        return f"no two rows score {found.threshold:g} or more ({found.metric})"
    rows = sum(len(group.rows) for group in found.groups)
    return (
        f"{output.counted(found.pair_count, 'pair')} of {found.threshold:g} or more ({found.metric}) make "
        f"{output.counted(len(found.groups), 'group')} of {output.counted(rows, 'row')}, "
        f"of which {len(found.ids_to_delete):,} could go"
    )


def concerns(found: trunkline.Duplicates) -> Iterator[str]:
    """What deserves a look, in sentences."""
    labels = sum(group.labels_differ for group in found.groups)
    if labels:
        yield f"in {output.counted(labels, 'group')} the labels differ, so that some are wrong"
    splits = sum(group.splits_differ for group in found.groups)
    if splits:
        yield f"rows of {output.counted(splits, 'group')} stand on both sides of a split, which flatters test figures"


def _print(found: trunkline.Duplicates, limit: int) -> None:
    output.say(f"{found.collection}, version {found.version}: {summary(found)}")
    for concern in concerns(found):
        output.note(concern)
    shown = found.groups[:limit]
    if shown:
        output.table(
            ("group", "", "score", "label", "split", "size", "id"),
            [line for number, group in enumerate(shown, 1) for line in _lines(number, group)],
            numbers=("group", "score", "size"),
        )
    if len(found.groups) > len(shown):
        output.hint(
            f"{len(found.groups) - len(shown):,} more groups; --limit, --html FILE or --json shows them"
        )
    output.hint(how(found))


def _lines(number: int, group: trunkline.DuplicateGroup) -> Iterator[tuple[Any, ...]]:
    for at, found in enumerate(group.rows[:_SHOWN_ROWS]):
        row = found.row
        score = "" if found.score is None else f"{found.score:.4f}"
        yield (
            number if at == 0 else "",
            "keep" if found.keep else "",
            score,
            label_words(row.label),
            row.split,
            size_words(row.size),
            row.id,
        )
    if len(group.rows) > _SHOWN_ROWS:
        yield ("", "", "", "", "", "", f"and {len(group.rows) - _SHOWN_ROWS:,} more")


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
