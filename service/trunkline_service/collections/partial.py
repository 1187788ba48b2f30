"""Some columns of rows that are there: what a job knows anew is written, what people said is not touched.

A row that is gone meanwhile stays gone, and a value that somebody sets at the same moment survives:
both are columns of one merge, which Lance applies to the version that it commits on top of.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from trunkline_service.collections.checks import check_decode, check_dimension, check_space
from trunkline_service.collections.convert import rows_to_table
from trunkline_service.collections.handle import Handle, Snapshot, merging
from trunkline_service.collections.rows import Row
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.collections.widening import unless_retyped
from trunkline_service.collections.writing import with_columns

_PEOPLES = ("label", "split")


class Touched(NamedTuple):
    """A row whose source is newer, or lies elsewhere, and holds the same bytes."""

    id: str
    source: str
    size: int | None
    mtime: float | None
    etag: str | None


def refresh(handle: Handle, rows: Sequence[Row], space_id: str, decode: str | None) -> int:
    """See `Collection.refresh`."""
    snapshot = handle.open()
    check_space(handle.name, snapshot.spec, space_id)
    check_dimension(handle.name, snapshot.spec, rows)
    check_decode(handle.name, snapshot.spec, rows, decode)
    # Rows that name the same columns are one merge: almost always all of them.
    alike: dict[frozenset[str], list[Row]] = defaultdict(list)
    for row in {row.id: row for row in rows}.values():
        alike[frozenset(name for name, value in row.metadata.items() if value is not None)].append(row)
    version = snapshot.version
    for named, group in alike.items():
        write = functools.partial(_refresh, handle, group, named)
        version = unless_retyped(handle, handle.open(), write)
    return version


def _refresh(handle: Handle, group: Sequence[Row], named: frozenset[str], snapshot: Snapshot) -> int:
    snapshot = with_columns(handle, snapshot, group)
    table = rows_to_table(group, snapshot.dataset.schema, handle.clock())
    keep = [name for name in table.column_names if name not in _PEOPLES]
    keep = [name for name in keep if name in COLUMNS or name in named]
    with handle.errors("written"):
        merging(snapshot).when_matched_update_all().execute(table.select(keep))
        return snapshot.version


def touch(handle: Handle, touched: Sequence[Touched]) -> int:
    """See `Collection.touch`."""
    import pyarrow as pa

    snapshot = handle.open()
    unique = list({entry.id: entry for entry in touched}.values())
    if not unique:
        return snapshot.version
    schema = pa.schema([snapshot.dataset.schema.field(name) for name in Touched._fields])
    columns = dict(zip(Touched._fields, map(list, zip(*unique, strict=True)), strict=True))
    with handle.errors("written"):
        merging(snapshot).when_matched_update_all().execute(pa.table(columns, schema=schema))
    return snapshot.version
