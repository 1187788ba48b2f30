"""What people said of rows, from a collection to another of the same rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.convert import as_label
from trunkline_service.collections.filters import any_of
from trunkline_service.collections.metadata import plain
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.workspace.fingerprints import Fingerprints

_BATCH = 65_536
_AT_ONCE = 4096
_PEOPLES = ("label", "split")


def carry_over(before: Collection, after: Collection) -> int:
    """Copies label, split and users' columns to the rows of the same ids; gives how many rows differed.

    Memory is that of `Fingerprints`, and of some thousand rows.

    Raises:
        InvalidArgument: A column there can't hold what is to be copied, naming a row.
    """
    own = [name for name in before.columns() if name not in COLUMNS]
    columns = [*_PEOPLES, *own]
    added = _add_columns(before, after, own)
    shared = [name for name in columns if name in after.columns()]
    there = Fingerprints(_values(after, shared))
    changed = len(added)
    waiting: dict[str, tuple[Any, ...]] = {}
    for ids, values in _values(before, shared):
        for position in np.flatnonzero(there.differ(ids, values)).tolist():
            waiting[ids[position]] = values[position]
            if len(waiting) == _AT_ONCE:
                changed += _copy(after, shared, waiting, added)
                waiting = {}
    return changed + _copy(after, shared, waiting, added)


def _add_columns(before: Collection, after: Collection, own: Sequence[str]) -> set[str]:
    """Makes the columns that are missing, each with a row that has a value of it; gives the ids of these."""
    added = set()
    there = after.columns()
    for name in (name for name in own if name not in there):
        for batch in before.scan(["id", name], f"{name} IS NOT NULL", batch_size=_AT_ONCE):
            values = dict(zip(batch.column("id").to_pylist(), batch.column(name).to_pylist(), strict=True))
            rows = after.find(list(values))
            if rows:
                row = next(iter(rows.values()))
                given = {**row.metadata, name: plain(values[row.id])}
                row = dataclasses.replace(row, metadata=given)
                after.upsert([row], space_id=after.spec.space_id, decode=None, allow_mixed_decode=True)
                added.add(row.id)
                break
    return added


def _copy(
    after: Collection, columns: Sequence[str], wanted: dict[str, tuple[Any, ...]], added: set[str]
) -> int:
    """One commit a column that differs; gives how many rows, without those that were counted before."""
    if not wanted:
        return 0
    found = {
        row_id: row
        for ids, values in _values(after, columns, any_of("id", list(wanted)))
        for row_id, row in zip(ids, values, strict=True)
    }
    changed: set[str] = set()
    for position, name in enumerate(columns):
        values = {
            row_id: wanted[row_id][position]
            for row_id, row in found.items()
            if row[position] != wanted[row_id][position]
        }
        after.relabel(values, name)
        changed |= values.keys()
    return len(changed - added)


def _values(
    collection: Collection, columns: Sequence[str], where: str | None = None
) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    for batch in collection.scan(["id", *columns], where, batch_size=_BATCH):
        ids, *lists = (column.to_pylist() for column in batch.columns)
        yield ids, [tuple(_held(value) for value in row) for row in zip(*lists, strict=True)]


def _held(value: Any) -> Any:
    return as_label(value) if isinstance(value, list) else plain(value)
