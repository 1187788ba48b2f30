"""How a collection is searched at the moment."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_service.index.card import IndexCard, Recall
from trunkline_service.index.options import IndexKind, IndexOptions


@dataclass(frozen=True)
class IndexState:
    """What serves searches of a collection, and what is known of it.

    Attributes:
        collection: Its name.
        version: The collection's version that the next search sees.
        kind: What serves.
        options: What is wished.
        rows: Rows with a vector.
        delta_rows: Of them, those that changed since the index was built; they are compared exactly.
        deleted_rows: Rows of the index that are gone or changed since.
        card: Of the build that serves; None where none was made.
        recall: The newest measurement; None where search is exact.
        building: Somebody is building now.
        note: Why search is as it is, in a sentence.
    """

    collection: str
    version: int
    kind: IndexKind
    options: IndexOptions
    rows: int
    delta_rows: int
    deleted_rows: int
    card: IndexCard | None
    recall: Recall | None
    building: bool
    note: str
