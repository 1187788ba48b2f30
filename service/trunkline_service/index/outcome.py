"""What a search answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.rows import Label
from trunkline_service.index.card import Recall
from trunkline_service.index.options import IndexKind

_NOTHING: Mapping[str, Scalar] = MappingProxyType({})


class Hit(NamedTuple):
    """One neighbour.

    Attributes:
        id: Its row.
        score: By the collection's metric; higher is nearer. A cosine is -1..1.
        label: The row's label or labels, if it has any.
        source: Where its bytes came from.
        group: Its value of the column that was grouped by, as text; None where there is none.
        duplicates: Ids of rows that were folded into it, the nearest 100 to the query at most.
        metadata: The row's values of the columns that were asked for, by name; None for null.
    """

    id: str
    score: float
    label: Label
    source: str
    group: str | None = None
    duplicates: tuple[str, ...] = ()
    metadata: Mapping[str, Scalar] = _NOTHING


@dataclass(frozen=True)
class Searched:
    """How a search was answered.

    Attributes:
        kind: Of the index.
        exact: Every row that could be a hit was compared.
        index_version: The collection's version that the index was built from; rows that changed since were
            compared exactly.
        recall: What was measured of the index; None where it is exact.
    """

    kind: IndexKind
    exact: bool
    index_version: int
    recall: Recall | None = None


@dataclass(frozen=True)
class SearchOutcome:
    """The neighbours of each query, and what they were found in.

    Attributes:
        space_id: The collection's space.
        version: The version of the collection that was searched.
        metric: Of the collection.
        hits: A list for each query, the nearest first.
        searched: How.
        uid: The collection's, which a later one of the same name does not share; empty where it is not known.
    """

    space_id: str
    version: int
    metric: str
    hits: list[list[Hit]]
    searched: Searched
    uid: str = ""
