"""What the colours of a map mean: a few labels or clusters by name, and the rest as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import trunkline
from trunkline_service.cli.collections.exploring.shared import label_words

By: TypeAlias = Literal["label", "cluster"]

# Told apart on white and on black, also by most of those who are colour-blind.
PALETTE = (
    "#3b82c4",
    "#e07b28",
    "#2f9e66",
    "#cf4b63",
    "#8b66c9",
    "#b3901c",
    "#1fa5a5",
    "#d56bb0",
    "#6f9a2e",
    "#6079dd",
    "#ab6840",
)
REST = "#8a929a"


@dataclass(frozen=True)
class Legend:
    """Categories of points.

    Attributes:
        names: The most frequent first; at the end what stands for the rest, or for no label.
        colours: ``#rrggbb`` of each.
        counts: Points of each.
        codes: Of each point, its category.
    """

    names: tuple[str, ...]
    colours: tuple[str, ...]
    counts: tuple[int, ...]
    codes: list[int]


def legend(found: trunkline.Map, by: By) -> Legend:
    """What the colours mean."""
    if by == "cluster":
        return _legend([f"cluster {number + 1}" for number in found.clusters.tolist()])
    return _legend([label_words(row.label) for row in found.points])


def default_by(found: trunkline.Map) -> By:
    """``label`` where rows have one."""
    return "label" if any(row.label is not None for row in found.points) else "cluster"


def _legend(words: Sequence[str]) -> Legend:
    counts = Counter(words)
    unnamed = counts.pop("", 0)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    named = ranked[: len(PALETTE)]
    names, colours = list(named), list(PALETTE[: len(named)])
    sizes = [counts[name] for name in named]
    code = {name: at for at, name in enumerate(named)}
    if rest := ranked[len(PALETTE) :]:
        code |= dict.fromkeys(rest, len(names))
        names.append(f"{len(rest):,} others")
        colours.append(REST)
        sizes.append(sum(counts[name] for name in rest))
    if unnamed:
        code[""] = len(names)
        names.append("no label")
        colours.append(REST)
        sizes.append(unnamed)
    return Legend(tuple(names), tuple(colours), tuple(sizes), [code[word] for word in words])
