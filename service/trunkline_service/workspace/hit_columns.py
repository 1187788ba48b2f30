"""Hits -> hits that carry columns of their rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.columns import MOST_VALUE_BYTES, too_large, values_by_id
from trunkline_service.collections.fragments import Fragments
from trunkline_service.errors import FailedPrecondition, InvalidArgument
from trunkline_service.index.outcome import Hit, SearchOutcome


def searched_rows(collection: Collection, outcome: SearchOutcome) -> Fragments | None:
    """The version that was searched; None where it is gone, by now or within the refresh interval."""
    try:
        stored = collection.fragments(outcome.version)
    except InvalidArgument:
        return None
    same = stored.spec.space_id == outcome.space_id and outcome.uid in ("", stored.uid)
    return stored if same else None


def carrying(
    outcome: SearchOutcome, stored: Fragments, columns: Sequence[str], cancelled: Callable[[], bool]
) -> SearchOutcome:
    """The outcome with values of its hits' rows, read at once.

    Args:
        outcome: Of a search.
        stored: The version that was searched.
        columns: Of it.
        cancelled: Whether nobody waits any more.

    Raises:
        InvalidArgument: A column that can't be given, or more values than one reply holds.
        FailedPrecondition: The rows are another collection's of this name.
        Cancelled: ``cancelled`` said so.
    """
    ids = list(dict.fromkeys(hit.id for hits in outcome.hits for hit in hits))
    values = values_by_id(stored, ids, columns, cancelled)
    if len(values) < len(ids):
        raise replaced(stored.handle.name)
    lengths = {
        row_id: sum(len(value) for value in row.values() if isinstance(value, str))
        for row_id, row in values.items()
    }
    size = sum(lengths[hit.id] for hits in outcome.hits for hit in hits)
    if size > MOST_VALUE_BYTES:
        raise too_large(size)

    def with_values(hit: Hit) -> Hit:
        return hit._replace(metadata=values[hit.id])

    return dataclasses.replace(outcome, hits=[[with_values(hit) for hit in hits] for hits in outcome.hits])


def replaced(name: str) -> FailedPrecondition:
    """What is said where a collection's rows went away under a search."""
    return FailedPrecondition(
        f"what was searched of collection {name!r} was removed, or another collection took its name, before the "
        "columns of the hits were read; search again"
    )
