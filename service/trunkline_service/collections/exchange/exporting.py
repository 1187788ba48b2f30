"""Collections into files: Parquet, whole or what changed; a NumPy matrix with its ids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trunkline_service.collections.changes import Changes, changes
from trunkline_service.collections.convert import valid_vectors
from trunkline_service.collections.exchange.whole import check_folder, whole_files, write_parquet
from trunkline_service.collections.handle import Handle, Snapshot
from trunkline_service.collections.reading import scan
from trunkline_service.collections.schema import RECORD_KEY
from trunkline_service.errors import InvalidArgument

CHANGE = "change"
"""The column that an export of changes has beside the collection's."""
CHANGES_KEY = b"trunkline_changes"
"""Where a Parquet file says that it holds changes: since which version, up to which."""
_BATCH_ROWS = 8192
_LINE_BREAK = "[\\r\\n]"


def wanted(condition: str | None, include_errors: bool) -> str | None:
    """A bound condition together with what ``include_errors`` says; None for every row."""
    parts = [*([] if condition is None else [condition]), *([] if include_errors else ["(status = 'ok')"])]
    return " AND ".join(parts) or None


def export_parquet(
    handle: Handle,
    path: str | Path,
    condition: str | None,
    columns: Sequence[str] | None,
    since: int | None,
    version: int | None,
) -> int:
    """See `Collection.export_parquet`; ``condition`` is bound."""
    target = Path(path)
    check_folder(target)
    columns = columns or None
    if since is not None:
        return _export_changes(handle, target, condition, columns, since, version)
    snapshot = handle.open(version)
    batches = scan(handle, snapshot, columns, condition, _BATCH_ROWS)
    record = {RECORD_KEY: snapshot.record.to_json().encode()}
    schema = _projected(snapshot, columns).with_metadata(record)
    with handle.errors(f"exported to {str(target)!r}"):
        return write_parquet(target, schema, (batch.replace_schema_metadata(record) for batch in batches))


def export_npy(handle: Handle, path: str | Path, condition: str | None, version: int | None) -> int:
    """See `Collection.export_npy`; ``condition`` is bound."""
    target = Path(path)
    check_folder(target)
    snapshot = handle.open(version)
    rows, broken = _count(handle, snapshot, condition)
    plain, lines = (target.with_name(f"{target.name}.ids.{form}") for form in ("txt", "jsonl"))
    ids, stale = (lines, plain) if broken else (plain, lines)
    batches = scan(handle, snapshot, ["id", "embedding"], condition, _BATCH_ROWS)
    with handle.errors(f"exported to {str(target)!r}"), whole_files(target, ids) as (matrix, names):
        shape = (rows, snapshot.spec.dim)
        np.lib.format.write_array_header_1_0(matrix, {"descr": "<f4", "fortran_order": False, "shape": shape})
        written = 0
        for batch in batches:
            vectors = valid_vectors(batch.column("embedding"))
            matrix.write(np.ascontiguousarray(vectors, "<f4").data)
            texts = batch.column("id").to_pylist()
            names.write("".join(f"{json.dumps(text) if broken else text}\n" for text in texts).encode())
            written += len(vectors)
        if written != rows:
            raise RuntimeError(f"{rows} rows are ok, but {written} have a vector: no upsert writes that")
    with handle.errors(f"exported to {str(target)!r}"):
        stale.unlink(missing_ok=True)
    return rows


def _count(handle: Handle, snapshot: Snapshot, condition: str | None) -> tuple[int, bool]:
    """How many rows there are, and whether an id holds a line break."""
    import pyarrow.compute as pc

    rows, broken = 0, False
    for batch in scan(handle, snapshot, ["id"], condition, _BATCH_ROWS):
        rows += batch.num_rows
        broken = broken or bool(pc.any(pc.match_substring_regex(batch.column("id"), _LINE_BREAK)).as_py())
    return rows, broken


def _projected(snapshot: Snapshot, columns: Sequence[str] | None) -> Any:
    import pyarrow as pa

    schema = snapshot.dataset.schema
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def _export_changes(
    handle: Handle,
    target: Path,
    condition: str | None,
    columns: Sequence[str] | None,
    since: int,
    version: int | None,
) -> int:
    snapshot = handle.open(version)
    if CHANGE in snapshot.dataset.schema.names and (columns is None or CHANGE in columns):
        raise InvalidArgument(
            f"collection {handle.name!r} has a column {CHANGE!r} of its own, as an export of changes has; name "
            "the other columns"
        )
    found = changes(handle, since, snapshot.version)
    chosen = None if columns is None else list(dict.fromkeys(["id", *columns]))
    upserts, left_out = _changed(handle, snapshot, condition, chosen, found)
    schema = _changes_schema(snapshot, chosen, found)
    with handle.errors(f"exported to {str(target)!r}"):
        return write_parquet(target, schema, _change_batches(schema, upserts, left_out, found))


def _changes_schema(snapshot: Snapshot, columns: Sequence[str] | None, found: Changes) -> Any:
    import pyarrow as pa

    span = json.dumps({"since": found.since, "version": found.version})
    # A deleted row has nothing but its id.
    fields = [field.with_nullable(field.name != "id") for field in _projected(snapshot, columns)]
    record = {RECORD_KEY: snapshot.record.to_json().encode(), CHANGES_KEY: span.encode()}
    return pa.schema([*fields, pa.field(CHANGE, pa.utf8(), nullable=False)], metadata=record)


def _changed(
    handle: Handle,
    snapshot: Snapshot,
    condition: str | None,
    columns: Sequence[str] | None,
    found: Changes,
) -> tuple[Iterator[Any], Iterator[Any]]:
    """Batches of changed rows that a condition lets through, and of the ids of those that it does not."""
    if condition is None:
        return scan(handle, snapshot, columns, found.condition, _BATCH_ROWS), iter(())
    inside = scan(handle, snapshot, columns, f"{found.condition} AND {condition}", _BATCH_ROWS)
    outside = f"{found.condition} AND (({condition}) IS NOT TRUE)"
    return inside, scan(handle, snapshot, ["id"], outside, _BATCH_ROWS)


def _change_batches(
    schema: Any, upserts: Iterator[Any], left_out: Iterator[Any], found: Changes
) -> Iterator[Any]:
    import pyarrow as pa

    for batch in upserts:
        yield pa.RecordBatch.from_arrays(
            [*batch.columns, pa.array(["upsert"] * batch.num_rows)], schema=schema
        )
    for batch in left_out:
        yield _deletions(schema, batch.column("id").to_pylist())
    for ids in found.deleted():
        yield _deletions(schema, ids)


def _deletions(schema: Any, ids: Sequence[str]) -> Any:
    import pyarrow as pa

    columns = {"id": pa.array(ids, pa.utf8()), CHANGE: pa.array(["delete"] * len(ids))}
    arrays = [
        columns[field.name] if field.name in columns else pa.nulls(len(ids), field.type) for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
