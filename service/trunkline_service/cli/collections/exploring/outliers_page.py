"""Outliers as a page: each with its image, the row nearest to it, and why it is one."""

from __future__ import annotations

import itertools
from pathlib import Path

import trunkline
from trunkline_service.cli.collections.exploring.frame import page
from trunkline_service.cli.collections.exploring.outliers import sources, usual
from trunkline_service.cli.collections.exploring.pictures import (
    Pictures,
    picture,
    row_card,
    why_none,
    without,
)
from trunkline_service.cli.collections.exploring.shared import distance_words, label_words
from trunkline_service.heads.report.markup import Markup, tag
from trunkline_service.heads.report.thumbnails import Thumbnail


def render(found: trunkline.Outliers, root: Path | None) -> str:
    """The page.

    Args:
        found: What it shows.
        root: The folder below which images may be opened; None opens nothing.
    """
    why = why_none(sources(found), root)
    copies = Pictures(root).of_each(sources(found)) if why is None else itertools.repeat(None)
    cards = [_card(entry, next(copies), next(copies)) for entry in found.outliers]
    words = usual(found)
    return page(
        "outliers",
        f"{found.collection}@{found.version}",
        f"The rows that are least like the others, the furthest first: {words}. Look whether they belong here.",
        without(why),
        tag("section", tag("div", cards, class_="suspects bare" if why else "suspects")),
    )


def _card(entry: trunkline.Outlier, copy: Thumbnail | None, nearest: Thumbnail | None) -> Markup:
    other = entry.nearest
    return row_card(
        entry.row,
        copy,
        tag("p", label_words(entry.row.label) or "no label", class_="facts"),
        tag("p", tag("b", f"{entry.times:.1f} times"), " as far as is usual", class_="doubt"),
        tag("p", entry.reason, class_="facts"),
        tag(
            "div",
            picture(nearest, f"image of {other.id}"),
            tag("p", f"nearest, {distance_words(entry.nearest_distance)} away: {other.id}", class_="id"),
            class_="nearest",
        ),
    )
