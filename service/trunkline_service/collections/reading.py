"""Rows out of a collection: by id, and streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trunkline_service.collections.convert import table_to_rows
from trunkline_service.collections.filters import any_of, unbound
from trunkline_service.collections.handle import Handle, Snapshot
from trunkline_service.collections.rows import Row
from trunkline_service.errors import InvalidArgument

_IDS_PER_FILTER = 4096
# What is looked for is made a table of hashes for each batch.
_IDS_AT_ONCE = 65_536


def find(handle: Handle, ids: Sequence[str], version: int | None) -> dict[str, Row]:
    """See `Collection.find`."""
    dataset = handle.open(version).dataset
    found: dict[str, Row] = {}
    wanted = list(dict.fromkeys(ids))
    with handle.errors("read"):
        for start in range(0, len(wanted), _IDS_PER_FILTER):
            part = wanted[start : start + _IDS_PER_FILTER]
            found |= {row.id: row for row in table_to_rows(dataset.to_table(filter=any_of("id", part)))}
    return found


def existing_ids(snapshot: Snapshot, ids: Sequence[str]) -> set[str]:
    """Those of the ids that have a row, of either status; may raise Lance's own errors."""
    if len(ids) > _IDS_PER_FILTER:
        return {row_id for part in _among(snapshot, ids) for row_id in part.to_pylist()}
    found = snapshot.dataset.to_table(columns=["id"], filter=any_of("id", ids)) if ids else None
    return set() if found is None else set(found.column("id").to_pylist())


def any_exists(snapshot: Snapshot, ids: Sequence[str]) -> bool:
    """Whether any of the ids has a row, of either status; may raise Lance's own errors."""
    if len(ids) > _IDS_PER_FILTER:
        return any(len(part) for part in _among(snapshot, ids))
    return bool(ids) and any_matches(snapshot, any_of("id", ids))


def any_matches(snapshot: Snapshot, condition: str) -> bool:
    """Whether a bound condition lets any row through; may raise Lance's own errors."""
    return bool(snapshot.dataset.to_table(columns=["id"], filter=condition, limit=1).num_rows)


def _among(snapshot: Snapshot, ids: Sequence[str]) -> Iterator[Any]:
    """Those of many ids that have a row, a batch at a time: one pass over the ids, however many are asked for."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(ids, snapshot.dataset.schema.field("id").type)
    for batch in snapshot.dataset.scanner(columns=["id"], batch_size=_IDS_AT_ONCE).to_batches():
        stored = batch.column("id")
        yield stored.filter(pc.is_in(stored, wanted))


def scan(
    handle: Handle,
    snapshot: Snapshot,
    columns: Sequence[str] | None,
    condition: str | None,
    batch_size: int,
) -> Iterator[Any]:
    """See `Collection.scan`; ``condition`` is bound."""
    known = snapshot.dataset.schema.names
    unknown = [name for name in columns or () if name not in known]
    if unknown:
        raise InvalidArgument(
            f"collection {handle.name!r} has no column {unknown[0]!r}; the columns are {', '.join(known)}"
        )
    said = None if condition is None else unbound(condition)
    with handle.filter_errors(snapshot, said):
        scanner = snapshot.dataset.scanner(
            columns=list(columns or known), filter=condition, batch_size=batch_size
        )
        # Planning finds what is wrong with a condition now, and not when the first batch is asked for.
        scanner.explain_plan()

    def batches() -> Iterator[Any]:
        with handle.filter_errors(snapshot, said):
            yield from scanner.to_batches()

    return batches()
