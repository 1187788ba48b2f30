"""Near duplicates as a page: each group with its images, what to keep first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import trunkline
from trunkline_service.cli.collections.exploring.duplicates import concerns, how, summary
from trunkline_service.cli.collections.exploring.frame import page
from trunkline_service.cli.collections.exploring.pictures import Pictures, row_card
from trunkline_service.cli.collections.exploring.shared import label_words, size_words
from trunkline_service.heads.report.markup import Child, Markup, tag

MOST_GROUPS = 300
_MOST_ROWS = 24


def render(found: trunkline.Duplicates, root: Path | None) -> str:
    """The page.

    Args:
        found: What it shows: the groups with a conflict first, then the largest ones.
        root: The folder below which images may be opened; None opens nothing.
    """
    # A conflict is worth more of a look than a copy.
    numbered = sorted(enumerate(found.groups, 1), key=lambda entry: not _conflict(entry[1]))[:MOST_GROUPS]
    shown = [group.rows[:_MOST_ROWS] for _, group in numbered]
    copies = Pictures(root).of_each(entry.row.source for rows in shown for entry in rows)
    groups = [
        tag(
            "section",
            tag("h2", f"Group {number}: {len(group.rows):,} rows", _flags(group)),
            tag(
                "div",
                [row_card(entry.row, next(copies), _said(entry), class_=_class(entry)) for entry in rows],
                class_="suspects row",
            ),
            tag("p", f"and {len(group.rows) - len(rows):,} more", class_="about")
            if len(group.rows) > len(rows)
            else None,
            class_="group",
        )
        for (number, group), rows in zip(numbered, shown, strict=True)
    ]
    return page(
        "near duplicates",
        f"{found.collection}@{found.version}",
        f"{_sentence(summary(found))} {_sentence(how(found))}",
        _concerns(found),
        groups,
        tag("p", f"{len(found.groups) - len(groups):,} more groups are not shown.", class_="about")
        if len(found.groups) > len(groups)
        else None,
    )


def _conflict(group: trunkline.DuplicateGroup) -> bool:
    return group.labels_differ or group.splits_differ


def _concerns(found: trunkline.Duplicates) -> Markup | None:
    told = [tag("li", _sentence(concern)) for concern in concerns(found)]
    return tag("ul", told, class_="findings panel") if told else None


def _flags(group: trunkline.DuplicateGroup) -> list[Markup]:
    flags = []
    if group.labels_differ:
        flags.append(tag("span", "labels differ", class_="flag"))
    if group.splits_differ:
        flags.append(tag("span", "on both sides of a split", class_="flag"))
    return flags


def _said(entry: trunkline.DuplicateRow) -> Iterator[Child]:
    if entry.keep:
        yield tag("p", "keep", class_="verdict")
    else:
        yield tag("p", f"{entry.score:.4f} like {entry.like}", class_="doubt")
    row = entry.row
    facts = [label_words(row.label) or "no label", row.split, size_words(row.size)]
    yield tag("p", ", ".join(fact for fact in facts if fact), class_="facts")


def _class(entry: trunkline.DuplicateRow) -> str:
    return "suspect kept" if entry.keep else "suspect"


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
