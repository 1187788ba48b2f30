"""Some columns of rows that are known by their ids, all of one version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.convert import valid_vectors
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.metadata import Scalar, plain
from trunkline_service.errors import Cancelled, InvalidArgument, RowNotFound

_NAMED_IDS = 5
_SCAN_ROWS = 65_536
_TAKE_ROWS = 4096
MOST_VALUE_BYTES = 32 * 1024 * 1024
"""Of the values that one call brings with its rows."""


def check_columns(stored: Fragments, columns: Sequence[str]) -> None:
    """Does nothing where rows can be given with these columns' values.

    Raises:
        InvalidArgument: A column that there is not, vectors, or one of lists or the like.
    """
    schema = stored.snapshot.dataset.schema
    name = stored.handle.name
    for column in columns:
        if column == "embedding":
            raise InvalidArgument(
                f"columns names 'embedding': hits carry no vectors; get the rows of collection {name!r} by the "
                "hits' ids instead"
            )
        if column not in schema.names:
            known = ", ".join(entry for entry in schema.names if entry != "embedding")
            raise InvalidArgument(f"collection {name!r} has no column {column!r}; the columns are {known}")
        kind = schema.field(column).type
        if column == "label" and stored.spec.multi_label:
            raise InvalidArgument(
                f"columns names 'label', which in collection {name!r} is a list: hits carry their labels anyway; "
                "leave it out of columns"
            )
        if not _is_scalar(kind):
            raise InvalidArgument(
                f"column {column!r} of collection {name!r} holds {kind}; hits carry texts, numbers, truths and times"
            )


def values_by_id(
    stored: Fragments, ids: Sequence[str], columns: Sequence[str], cancelled: Callable[[], bool]
) -> dict[str, dict[str, Scalar]]:
    """The values of some columns, None for null, by id and column.

    Args:
        stored: The version to read.
        ids: Of rows; one that has none is left out.
        columns: See `check_columns`.
        cancelled: Whether nobody waits any more; asked now and then.

    Raises:
        InvalidArgument: A column that can't be given; values of more than `MOST_VALUE_BYTES`.
        StorageError: The version was removed meanwhile.
        Cancelled: ``cancelled`` said so.
    """
    check_columns(stored, columns)
    read = list(dict.fromkeys(("id", *columns)))
    found: dict[str, dict[str, Scalar]] = {}
    size = 0
    for table in _tables(stored, ids, read, cancelled):
        size += table.nbytes
        if size > MOST_VALUE_BYTES:
            raise too_large(size)
        lists = [[plain(value) for value in table.column(name).to_pylist()] for name in columns]
        for row_id, *values in zip(table.column("id").to_pylist(), *lists, strict=True):
            found[row_id] = dict(zip(columns, values, strict=True))
    return found


def too_large(size: int) -> InvalidArgument:
    """What is said of values that take so many bytes, or more."""
    return InvalidArgument(
        f"the values of the columns take {size:,} bytes or more; at most {MOST_VALUE_BYTES:,} are given in one "
        "reply: name fewer columns, send fewer queries, or ask for a smaller k"
    )


def vectors_by_id(
    stored: Fragments, ids: Sequence[str], cancelled: Callable[[], bool]
) -> NDArray[np.float32]:
    """The vectors of rows, float32 (n, dim), in the order of the ids.

    Raises:
        RowNotFound: Naming the ids that have no row.
        InvalidArgument: A row without an embedding.
        StorageError: The version was removed meanwhile.
        Cancelled: ``cancelled`` said so.
    """
    vectors: dict[str, NDArray[np.float32]] = {}
    for table in _tables(stored, ids, ["id", "embedding", "error"], cancelled):
        (batch,) = table.combine_chunks().to_batches()
        valid = batch.column("embedding").is_valid().to_pylist()
        part = iter(valid_vectors(batch.column("embedding")))
        texts = zip(batch.column("id").to_pylist(), batch.column("error").to_pylist(), valid, strict=True)
        for row_id, error, has_vector in texts:
            if not has_vector:
                raise InvalidArgument(f"row {row_id!r} has no embedding ({error}); it can't be a query")
            vectors[row_id] = next(part)
    missing = [repr(row_id) for row_id in dict.fromkeys(ids) if row_id not in vectors]
    if missing:
        more = f" and {len(missing) - _NAMED_IDS} more" if len(missing) > _NAMED_IDS else ""
        named = ", ".join(missing[:_NAMED_IDS])
        raise RowNotFound(f"collection {stored.handle.name!r} has no row {named}{more}")
    if not ids:
        return np.empty((0, stored.spec.dim), np.float32)
    return np.stack([vectors[row_id] for row_id in ids])


def _tables(
    stored: Fragments, ids: Sequence[str], columns: Sequence[str], cancelled: Callable[[], bool]
) -> list[Any]:
    """The rows in Arrow tables, in the order of the collection; of an id that has no row, nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(list(dict.fromkeys(ids)), pa.utf8())
    dataset = stored.snapshot.dataset
    places: list[NDArray[np.int64]] = []
    start = found = 0
    with stored.handle.errors("read"):
        # There is no index of ids, so all of them are read once, and then only the rows themselves.
        scanner = dataset.scanner(columns=["id"], batch_size=_SCAN_ROWS, scan_in_order=True)
        for batch in scanner.to_batches():
            if found == len(wanted):
                break
            _check(cancelled)
            here = pc.is_in(batch.column("id"), value_set=wanted).to_numpy(zero_copy_only=False)
            places.append(np.flatnonzero(here) + start)
            found += len(places[-1])
            start += len(batch)
        at = np.concatenate([np.empty(0, np.int64), *places]).tolist()
        tables = []
        for first in range(0, len(at), _TAKE_ROWS):
            _check(cancelled)
            tables.append(dataset.take(at[first : first + _TAKE_ROWS], columns=list(columns)))
    return tables


def _check(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled("the search was called off; nothing was answered")


def _is_scalar(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_integer)
    return any(test(kind) for test in (*tests, pa.types.is_floating, pa.types.is_timestamp))
