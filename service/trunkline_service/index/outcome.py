"""What a search answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from trunkline_service.collections.rows import Label


class Hit(NamedTuple):
    """One neighbour.

    Attributes:
        id: Its row.
        score: Its cosine to the query, -1..1.
        label: The row's label or labels, if it has any.
        source: Where its bytes came from.
    """

    id: str
    score: float
    label: Label
    source: str


@dataclass(frozen=True)
class SearchOutcome:
    """The neighbours of each query, and what they were found in.

    Attributes:
        space_id: The collection's space.
        version: The version of the collection that was searched.
        metric: ``cosine``: more is nearer.
        hits: A list for each query, the nearest first.
    """

    space_id: str
    version: int
    metric: str
    hits: list[list[Hit]]
