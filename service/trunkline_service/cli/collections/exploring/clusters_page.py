"""Clusters as a page: each with the rows that stand for it, and its labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import trunkline
from trunkline_service.cli.collections.exploring.clusters import mix, more_words, sources, summary
from trunkline_service.cli.collections.exploring.frame import page
from trunkline_service.cli.collections.exploring.pictures import Pictures, picture, why_none, without
from trunkline_service.cli.collections.exploring.shared import distance_words, label_words
from trunkline_service.heads.report.markup import Markup, tag
from trunkline_service.heads.report.thumbnails import Thumbnail

_BAR = 100


def render(found: trunkline.Clusters, root: Path | None) -> str:
    """The page.

    Args:
        found: What it shows.
        root: The folder below which images may be opened; None opens nothing.
    """
    why = why_none(sources(found), root)
    copies = Pictures(root).of_each(sources(found)) if why is None else itertools.repeat(None)
    more = more_words(found)
    return page(
        "clusters",
        f"{found.collection}@{found.version}",
        f"{summary(found)}. Of each, the row in its middle comes first, then rows that show how much it varies.",
        tag("p", f"{more}.", class_="about") if more else None,
        without(why),
        [_section(cluster, found.rows, copies) for cluster in found.clusters],
    )


def _section(cluster: trunkline.Cluster, rows: int, copies: Iterator[Thumbnail | None]) -> Markup:
    pictures = [next(copies) for _ in cluster.representatives]
    share = f"{cluster.rows:,} rows, {cluster.rows / rows:.0%} of all; cohesion {distance_words(cluster.cohesion)}"
    return tag(
        "section",
        tag("h2", f"Cluster {cluster.number + 1}"),
        tag("p", share, class_="about"),
        tag("ul", [_bar(name, count, cluster) for name, count in cluster.labels.items()], class_="bars")
        if cluster.labels
        else tag("p", mix(cluster, 1), class_="about"),
        tag(
            "div",
            [
                tag(
                    "figure",
                    picture(copy, f"image of {row.id}"),
                    tag("figcaption", tag("b", label_words(row.label)), " ", row.id),
                )
                for row, copy in zip(cluster.representatives, pictures, strict=True)
            ],
            class_="strip bare" if all(copy is None for copy in pictures) else "strip",
        ),
        class_="group",
    )


def _bar(name: str, count: int, cluster: trunkline.Cluster) -> Markup:
    share = count / cluster.labelled
    bar = tag(
        "svg",
        tag("rect", class_="track", width=_BAR, height=18),
        tag("rect", class_="own", width=_BAR * share, height=18),
        viewBox=f"0 0 {_BAR} 18",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    return tag("li", tag("span", name), bar, tag("span", f"{share:.0%}", class_="value"))
