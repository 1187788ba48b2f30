"""Columns of whole numbers that become columns of floats, since a float came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from trunkline_service.collections.handle import Handle, Snapshot
from trunkline_service.collections.metadata import LARGEST_EXACT, floats_for
from trunkline_service.collections.upkeep import retried
from trunkline_service.errors import InvalidArgument, StorageError

_Result = TypeVar("_Result")
# Lance reads a field's id here, where a schema is given to it as Arrow's.
_FIELD_ID = b"lance:field_id"


def widen(
    handle: Handle, snapshot: Snapshot, rows: Sequence[tuple[str, Mapping[str, Any]]], own: Iterable[str]
) -> Snapshot:
    """The collection with a column of floats wherever these rows bring floats to one of whole numbers.

    Ids, row ids and all other columns stay as they are, and older versions keep the whole numbers.

    Args:
        handle: The collection.
        snapshot: Of it.
        rows: Ids and values, by column.
        own: The columns that may be changed.

    Raises:
        InvalidArgument: The column holds a whole number that no float is equal to.
        StorageError: Other writers kept committing first.
    """
    if not _to_widen(snapshot, rows, own):
        return snapshot

    def change(latest: Snapshot) -> None:
        for name in _to_widen(latest, rows, own):
            # One column a commit; the next begins on top of it.
            _as_floats(handle, handle.open(), name)

    retried(handle, "written", change)
    return handle.open()


def unless_retyped(handle: Handle, snapshot: Snapshot, write: Callable[[Snapshot], _Result]) -> _Result:
    """Writes, and again on top of the latest version where a column got another type meanwhile.

    Lance tries a merge again by itself, with the table that was made for the types before.

    Raises:
        StorageError: The write failed, and not for this reason.
    """
    while True:
        try:
            return write(snapshot)
        except StorageError:
            latest = handle.open()
            if latest.dataset.schema.types == snapshot.dataset.schema.types:
                raise
            snapshot = latest


def _to_widen(
    snapshot: Snapshot, rows: Sequence[tuple[str, Mapping[str, Any]]], own: Iterable[str]
) -> list[str]:
    types = {field.name: field.type for field in snapshot.dataset.schema}
    return sorted(floats_for(rows, {name: types[name] for name in own if name in types}))


def _as_floats(handle: Handle, snapshot: Snapshot, name: str) -> None:
    """One commit, which fails where another came first. Lance's own `alter_columns` can't cast to floats."""
    import lance

    dataset = snapshot.dataset
    beyond = f"{name} > {LARGEST_EXACT} OR {name} < -{LARGEST_EXACT}"
    row = dataset.to_table(columns=["id", name], filter=beyond, limit=1).to_pylist()
    if row:
        raise InvalidArgument(
            f"column {name!r} of collection {handle.name!r} holds whole numbers and now gets a float; row "
            f"{row[0]['id']!r} holds {row[0][name]}, which no float is equal to: write floats to another column"
        )
    # No column of a user's can be called so.
    made = f"_floats_{name}"
    merged = [piece.merge_columns(_cast(name, made), columns=[name]) for piece in dataset.get_fragments()]
    # Without pieces there is nothing to convert, and any free id will do.
    fields = {field.name(): field for field in (merged[0][1] if merged else dataset.lance_schema).fields()}
    schema = _schema(dataset, fields, name, fields[made].id() if merged else dataset.max_field_id + 1)
    operation = lance.LanceOperation.Merge([piece for piece, _ in merged], dataset.lance_schema)
    # Set, since the constructor warns of schemas of Arrow's, and of Lance's own none can be made with these ids.
    operation.schema = schema
    lance.LanceDataset.commit(dataset, operation, read_version=snapshot.version, max_retries=0)


def _cast(name: str, made: str) -> Any:
    import pyarrow as pa

    def cast(batch: Any) -> Any:
        return pa.record_batch([batch.column(name).cast(pa.float64())], names=[made])

    return cast


def _schema(dataset: Any, fields: Mapping[str, Any], name: str, floats: int) -> Any:
    """The dataset's schema with the field ``floats`` in the place of column ``name``."""
    import pyarrow as pa

    written = []
    for field in dataset.schema:
        if field.name == name:
            written.append(_numbered(field.with_type(pa.float64()), floats))
        else:
            written.append(_with_ids(field, fields[field.name]))
    return pa.schema(written, metadata=dataset.schema.metadata)


def _with_ids(field: Any, known: Any) -> Any:
    """An Arrow field that says which of Lance's it is, and which its children are."""
    import pyarrow as pa

    children = known.children()
    if children and pa.types.is_list(field.type):
        field = field.with_type(pa.list_(_with_ids(field.type.value_field, children[0])))
    return _numbered(field, known.id())


def _numbered(field: Any, number: int) -> Any:
    return field.with_metadata({**(field.metadata or {}), _FIELD_ID: str(number).encode()})
