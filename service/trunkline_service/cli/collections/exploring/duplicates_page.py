"""Near duplicates as a page: each group with its images, what to keep first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import trunkline
from trunkline_service.cli.collections.exploring.duplicates_words import (
    chain_words,
    concerns,
    how,
    is_chain,
    score_words,
    summary,
)
from trunkline_service.cli.collections.exploring.frame import page
from trunkline_service.cli.collections.exploring.pictures import Pictures, row_card, why_none, without
from trunkline_service.cli.collections.exploring.shared import label_words, size_words
from trunkline_service.heads.report.markup import Child, Markup, tag
from trunkline_service.heads.report.thumbnails import Thumbnail

MOST_GROUPS = 300
_MOST_ROWS = 24
_REST = "The rest"
_KEPT = (
    "Of each group the best row is kept, and every row that is not within the "
    "threshold of a better one that is kept"
)


def render(found: trunkline.Duplicates, root: Path | None) -> str:
    """The page.

    Args:
        found: What it shows: the groups with a conflict first, each kind in the order of ``found``.
        root: The folder below which images may be opened; None opens nothing.
    """
    # A conflict is worth more of a look than a copy.
    ordered = sorted(found.groups, key=_kind)[:MOST_GROUPS]
    sources = [entry.row.source for group in ordered for entry in group.rows[:_MOST_ROWS]]
    why = why_none(sources, root)
    copies = Pictures(root).of_each(sources) if why is None else itertools.repeat(None)
    parts: list[Markup] = []
    for (_, heading), members in itertools.groupby(enumerate(ordered, 1), lambda entry: _kind(entry[1])):
        # Where all are of one kind that is no conflict, there is nothing to tell apart.
        if heading != _REST or parts:
            parts.append(tag("h2", heading, class_="part"))
        parts += [_section(number, group, found.threshold, copies) for number, group in members]
    left = len(found.groups) - len(ordered)
    return page(
        "near duplicates",
        f"{found.collection}@{found.version}",
        " ".join(map(_sentence, (summary(found), how(found), *([_KEPT] if found.groups else [])))),
        _concerns(found),
        without(why) if ordered else None,
        parts,
        tag("p", f"{left:,} more groups are not shown.", class_="about") if left else None,
    )


def _kind(group: trunkline.DuplicateGroup) -> tuple[int, str]:
    """Where a group stands on the page, and under which heading."""
    if group.labels_differ:
        return 0, "Labels differ"
    return (1, "On both sides of a split") if group.splits_differ else (2, _REST)


def _section(
    number: int, group: trunkline.DuplicateGroup, threshold: float, copies: Iterator[Thumbnail | None]
) -> Markup:
    rows = group.rows[:_MOST_ROWS]
    pictures = list(itertools.islice(copies, len(rows)))
    bare = all(copy is None for copy in pictures)
    cards = [
        row_card(entry.row, copy, _said(entry), class_=_class(entry))
        for entry, copy in zip(rows, pictures, strict=True)
    ]
    return tag(
        "section",
        tag("h3", f"Group {number}: {len(group.rows):,} rows", _flags(group)),
        tag("p", _sentence(chain_words(group, threshold)), class_="about") if is_chain(group) else None,
        tag("div", cards, class_="suspects bare" if bare else "suspects row"),
        tag("p", f"and {len(group.rows) - len(rows):,} more", class_="about")
        if len(group.rows) > len(rows)
        else None,
        class_="group",
    )


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
    if entry.score is None:
        yield tag("p", "keep", class_="verdict")
    else:
        yield tag("p", f"{score_words(entry.score)} like {entry.like}", class_="doubt")
    row = entry.row
    facts = [label_words(row.label) or "no label", row.split, size_words(row.size)]
    yield tag("p", ", ".join(fact for fact in facts if fact), class_="facts")


def _class(entry: trunkline.DuplicateRow) -> str:
    return "suspect kept" if entry.keep else "suspect"


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
