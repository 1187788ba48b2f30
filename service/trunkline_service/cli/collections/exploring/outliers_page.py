"""Outliers as a page: each with its image, the row nearest to it, and why it is one."""

from __future__ import annotations

from pathlib import Path

import trunkline
from trunkline_service.cli.collections.exploring.frame import page
from trunkline_service.cli.collections.exploring.outliers import usual
from trunkline_service.cli.collections.exploring.pictures import Pictures, picture, row_card
from trunkline_service.cli.collections.exploring.shared import label_words
from trunkline_service.heads.report.markup import Markup, tag
from trunkline_service.heads.report.thumbnails import Thumbnail


def render(found: trunkline.Outliers, root: Path | None) -> str:
    """The page.

    Args:
        found: What it shows.
        root: The folder below which images may be opened; None opens nothing.
    """
    sources = [source for entry in found.outliers for source in (entry.row.source, entry.nearest.source)]
    copies = Pictures(root).of_each(sources)
    cards = [_card(entry, next(copies), next(copies)) for entry in found.outliers]
    words = usual(found)
    return page(
        "outliers",
        f"{found.collection}@{found.version}",
        f"The rows that are least like the others, the furthest first: {words}. Look whether they belong here.",
        tag("section", tag("div", cards, class_="suspects")),
    )


def _card(entry: trunkline.Outlier, copy: Thumbnail, nearest: Thumbnail) -> Markup:
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
            tag("p", f"nearest, {entry.nearest_distance:.2f} away: {other.id}", class_="id"),
            class_="nearest",
        ),
    )
