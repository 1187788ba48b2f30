"""Rows into a collection: one commit a call, tried again on top of what others committed first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trunkline_service.collections.boundary import storage_errors
from trunkline_service.collections.checks import check_decode, check_dimension, check_space
from trunkline_service.collections.convert import check_label, rows_to_table
from trunkline_service.collections.filters import literal, unbound
from trunkline_service.collections.handle import CONFLICT_RETRIES, CONFLICT_TIMEOUT, Handle, Snapshot, merging
from trunkline_service.collections.metadata import (
    Scalar,
    arrow_type,
    check_column,
    check_scalar,
    column_array,
    floats_for,
    new_columns,
)
from trunkline_service.collections.reading import any_exists, any_matches
from trunkline_service.collections.rows import Label, Row
from trunkline_service.collections.schema import COLUMNS
from trunkline_service.collections.widening import unless_retyped, widen
from trunkline_service.errors import InvalidArgument

_COLUMN_ATTEMPTS = 20


def upsert(
    handle: Handle, rows: Sequence[Row], space_id: str, decode: str | None, allow_mixed_decode: bool
) -> int:
    """See `Collection.upsert`."""
    snapshot = handle.open()
    spec = snapshot.spec
    check_space(handle.name, spec, space_id)
    check_dimension(handle.name, spec, rows)
    if not allow_mixed_decode:
        check_decode(handle.name, spec, rows, decode)
    if not rows:
        return snapshot.version
    unique = list({row.id: row for row in rows}.values())

    def write(latest: Snapshot) -> int:
        latest = with_columns(handle, latest, unique)
        table = rows_to_table(unique, latest.dataset.schema, handle.clock())
        with handle.errors("written"):
            merge = merging(latest).when_matched_update_all().when_not_matched_insert_all()
            merge.execute(table)
            return latest.version

    return unless_retyped(handle, snapshot, write)


def delete(handle: Handle, ids: Sequence[str]) -> int:
    """See `Collection.delete`."""
    if not ids:
        return 0
    import pyarrow as pa

    snapshot = handle.open()
    with handle.errors("written"):
        if not any_exists(snapshot, list(ids)):
            return 0
        key = pa.schema([snapshot.dataset.schema.field("id")])
        table = pa.table({"id": sorted(set(ids))}, schema=key)
        counts = merging(snapshot).when_matched_delete().execute(table)
        return int(counts["num_deleted_rows"])


def delete_where(handle: Handle, condition: str) -> int:
    """See `Collection.delete_where`; ``condition`` is bound."""
    snapshot = handle.open()
    with _filtering(handle, snapshot, condition, "written"):
        if not any_matches(snapshot, condition):
            return 0
        deleted = snapshot.dataset.delete(
            condition, conflict_retries=CONFLICT_RETRIES, retry_timeout=CONFLICT_TIMEOUT
        )
        return int(deleted["num_deleted_rows"])


def relabel(handle: Handle, labels: Mapping[str, Label | Scalar], column: str) -> int:
    """See `Collection.relabel`."""
    if not labels:
        return 0
    import pyarrow as pa

    snapshot = handle.open()
    _check_values(handle, snapshot, labels, column)
    ids = list(labels)
    with handle.errors("read"):
        if not any_exists(snapshot, ids):
            return 0
    snapshot = _widened(handle, snapshot, labels, column)
    field = _target(handle, snapshot, column)
    array = _values(ids, list(labels.values()), column, snapshot, field.type)
    with handle.errors("written"):
        schema = pa.schema([snapshot.dataset.schema.field("id"), field])
        table = pa.table({"id": pa.array(ids, pa.utf8()), column: array}, schema=schema)
        counts = merging(snapshot).when_matched_update_all().execute(table)
        return int(counts["num_updated_rows"])


def relabel_where(handle: Handle, label: Label | Scalar, condition: str, column: str) -> int:
    """See `Collection.relabel_where`; ``condition`` is bound."""
    snapshot = handle.open()
    values = {"(all that match)": label}
    _check_values(handle, snapshot, values, column)
    with _filtering(handle, snapshot, condition, "read"):
        if not any_matches(snapshot, condition):
            return 0
    snapshot = _widened(handle, snapshot, values, column)
    field = _target(handle, snapshot, column)
    _values(list(values), [label], column, snapshot, field.type)
    if isinstance(label, tuple):
        value = f"[{','.join(map(literal, label))}]" if label else "make_array()"
    else:
        value = literal(label)
    with _filtering(handle, snapshot, condition, "written"):
        updated = snapshot.dataset.update(
            {column: value}, condition, conflict_retries=CONFLICT_RETRIES, retry_timeout=CONFLICT_TIMEOUT
        )
        return int(updated["num_rows_updated"])


def with_columns(handle: Handle, snapshot: Snapshot, rows: Sequence[Row]) -> Snapshot:
    """The collection with every column that the rows bring; null for the rows that are there.

    A column of whole numbers becomes one of floats where the rows bring floats.
    """
    import pyarrow as pa

    brought = [(row.id, row.metadata) for row in rows if row.metadata]
    if not brought:
        return snapshot
    names = {name for _id, metadata in brought for name in metadata}
    for name in names:
        check_column(name, COLUMNS)
    for attempt in range(_COLUMN_ATTEMPTS):
        schema = snapshot.dataset.schema
        missing = new_columns(brought, {field.name: field.type for field in schema})
        if not missing:
            return widen(handle, snapshot, brought, names)
        try:
            snapshot.dataset.add_columns(pa.schema([pa.field(name, kind) for name, kind in missing.items()]))
        except (OSError, ValueError, RuntimeError):
            # Another writer was faster: with the same column, or with anything else.
            if attempt + 1 == _COLUMN_ATTEMPTS:
                with handle.errors("written"):
                    raise
        snapshot = handle.open()
    return snapshot


def _widened(
    handle: Handle, snapshot: Snapshot, values: Mapping[str, Label | Scalar], column: str
) -> Snapshot:
    if column in COLUMNS:
        return snapshot
    return widen(handle, snapshot, [(row_id, {column: value}) for row_id, value in values.items()], [column])


def _check_values(
    handle: Handle, snapshot: Snapshot, values: Mapping[str, Label | Scalar], column: str
) -> None:
    """Refuses what can't be written to a column, before anything is.

    Raises:
        InvalidArgument: A column that can't be set, or a value that it can't hold, even as one of floats.
    """
    kind = _target(handle, snapshot, column).type
    brought: list[tuple[str, Mapping[str, Any]]] = [
        (row_id, {column: value}) for row_id, value in values.items()
    ]
    if column not in COLUMNS and floats_for(brought, {column: kind}):
        kind = arrow_type(0.0)
    _values(list(values), list(values.values()), column, snapshot, kind)


def _target(handle: Handle, snapshot: Snapshot, column: str) -> Any:
    """The field of a column that people may write.

    Raises:
        InvalidArgument: One that is not theirs, or does not exist.
    """
    schema = snapshot.dataset.schema
    if column in COLUMNS and column not in ("label", "split"):
        raise InvalidArgument(
            f"column {column!r} is kept by Trunkline; 'label', 'split' and your own can be set"
        )
    if column not in schema.names:
        raise InvalidArgument(
            f"collection {handle.name!r} has no column {column!r}; the columns are {', '.join(schema.names)}"
        )
    return schema.field(column)


def _values(ids: Sequence[str], values: Sequence[Any], column: str, snapshot: Snapshot, wanted: Any) -> Any:
    import pyarrow as pa

    if column == "label":
        for row_id, value in zip(ids, values, strict=True):
            if value is not None and not isinstance(value, (str, tuple)):
                raise InvalidArgument(f"row {row_id!r}: its label is {value!r}; a label is text")
            check_label(row_id, value, snapshot.spec.multi_label)
        return pa.array([list(value) if isinstance(value, tuple) else value for value in values], wanted)
    for row_id, value in zip(ids, values, strict=True):
        check_scalar(row_id, column, value)
    return column_array(ids, column, values, wanted)


def _filtering(handle: Handle, snapshot: Snapshot, condition: str, action: str) -> Any:
    columns = ", ".join(snapshot.dataset.schema.names)
    return storage_errors(handle.name, action, where=unbound(condition), columns=columns)
