"""A map as a page: points to pan and zoom over, and the image of the one where the pointer is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import trunkline
from trunkline_service.cli.collections.exploring.colours import Legend, default_by, legend
from trunkline_service.cli.collections.exploring.frame import page
from trunkline_service.cli.collections.exploring.map import better_words, summary
from trunkline_service.cli.collections.exploring.pictures import Pictures
from trunkline_service.cli.collections.exploring.shared import label_words
from trunkline_service.heads.report.markup import Markup, tag

# Finer than any screen, and short to write.
_SCALE = 10_000
_CELLS = 48


def render(found: trunkline.Map, root: Path | None, thumbnails: int) -> str:
    """The page.

    Args:
        found: What it shows.
        root: The folder below which images may be opened; None opens nothing.
        thumbnails: How many points have an image, spread over the map.
    """
    lead = (
        f"{summary(found)}. Points that are near each other are alike. Drag to move, turn the wheel or pinch to "
        "zoom; point at one to see it."
    )
    better = better_words(found)
    return page(
        "map",
        f"{found.collection}@{found.version}",
        f"{lead[:1].upper()}{lead[1:]}",
        tag("p", f"{better}.", class_="about bare") if better else None,
        _stage(),
        data=_data(found, root, thumbnails),
        script="map.js",
    )


def _stage() -> Markup:
    return tag(
        "section",
        tag("noscript", tag("p", "The map is drawn by this page's own script; allow it to run.")),
        tag(
            "div",
            tag("div", tag("span", "Colours"), id="by", class_="choices", role="group", aria_label="Colours"),
            tag(
                "input",
                type="search",
                id="find",
                placeholder="Find an id or a label",
                aria_label="Find an id or a label",
                autocomplete="off",
            ),
            tag("span", id="found", aria_live="polite"),
            class_="tools",
        ),
        tag(
            "div",
            tag(
                "canvas",
                id="map",
                tabindex="0",
                role="img",
                aria_label="Map of points. Arrow keys move it, plus and minus zoom, 0 shows all.",
            ),
            tag(
                "div",
                tag("button", "+", type="button", id="in", aria_label="Zoom in"),
                tag("button", "\N{MINUS SIGN}", type="button", id="out", aria_label="Zoom out"),
                tag("button", "All", type="button", id="all", aria_label="Show all"),
                class_="zoom",
            ),
            tag("div", id="card", hidden=True),
            class_="stage",
        ),
        tag("ul", id="legend", class_="legend", aria_label="What the colours mean; press one to hide it"),
        class_="map",
    )


def _data(found: trunkline.Map, root: Path | None, thumbnails: int) -> dict[str, Any]:
    """What the script reads; positions are 0 to 10,000, from the left and from the top."""
    places = _scaled(found.places)
    shown = spread(places, thumbnails)
    copies = Pictures(root, thumbnails).of_each(found.points[at].source for at in shown)
    images: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for at, copy in zip(shown, copies, strict=True):
        if copy.uri is not None:
            images[at] = copy.uri
        else:
            reasons[at] = copy.reason
    return {
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "ids": [row.id for row in found.points],
        "labels": [label_words(row.label) for row in found.points],
        "cluster": (found.clusters + 1).tolist(),
        "legends": {by: _legend(legend(found, by)) for by in ("label", "cluster")},
        "by": default_by(found),
        "images": images,
        "reasons": reasons,
        "missing": f"no image: the page holds {len(images):,}",
    }


def _legend(found: Legend) -> dict[str, Any]:
    return {"names": found.names, "colours": found.colours, "counts": found.counts, "codes": found.codes}


def _scaled(places: NDArray[np.float32]) -> NDArray[np.int64]:
    """int64 (n, 2) in a square, y downwards; lengths stay in proportion."""
    wide = places.astype(np.float64)
    low, high = wide.min(axis=0), wide.max(axis=0)
    span = float((high - low).max()) or 1.0
    scaled = (wide - (low + high) / 2) / span + 0.5
    scaled[:, 1] = 1 - scaled[:, 1]
    rounded: NDArray[np.int64] = np.rint(scaled * _SCALE).astype(np.int64)
    return rounded


def spread(places: NDArray[np.int64], most: int) -> list[int]:
    """Positions of at most ``most`` points that are spread over the map, in rising order.

    One of each cell of a grid, then a second one, and so on: thin regions have images as dense ones do.
    """
    cells = (places * _CELLS // (_SCALE + 1)) @ np.array([1, _CELLS])
    order = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
    rank = np.empty(len(cells), np.int64)
    rank[order] = np.arange(len(cells)) - np.repeat(starts, np.diff(np.append(starts, len(cells))))
    chosen: list[int] = np.sort(np.argsort(rank, kind="stable")[:most]).tolist()
    return chosen
