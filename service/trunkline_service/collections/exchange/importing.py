"""Files into collections: Parquet, and NumPy matrices with their ids; streamed, one commit a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.exchange.exporting import CHANGES_KEY
from trunkline_service.collections.exchange.foreign import Origin, check_columns, matrix_rows, rows_from
from trunkline_service.collections.rows import Row
from trunkline_service.collections.schema import RECORD_KEY, read_record
from trunkline_service.collections.spec import CollectionSpec, StoredFloat, declared_space
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument, SpaceMismatch

_BATCH_ROWS = 8192


@dataclass(frozen=True)
class Imported:
    """What an import wrote.

    Attributes:
        collection: Its name.
        version: After the last batch.
        rows: Rows of the file that were stored with a vector.
        errors: Rows of the file that were stored as error rows.
        created: Whether the collection was made for it.
    """

    collection: str
    version: int
    rows: int
    errors: int
    created: bool


def import_parquet(
    store: CollectionStore,
    path: str | Path,
    into: str,
    *,
    space_id: str | None = None,
    spec: CollectionSpec | None = None,
    metric: str | None = None,
    allow_mixed_decode: bool = False,
    batch_rows: int = _BATCH_ROWS,
) -> Imported:
    """Reads a Parquet file into a collection, which is made where there is none.

    The columns are ``id`` (text or whole numbers), ``embedding`` (lists of floats), and, where there
    are any, Trunkline's others; the rest are taken as the users' own. A file that Trunkline exported
    knows its space, and comes back as it went out. Of one id twice, the last row wins. What was read
    before an error stays; run again, the import ends as if nothing had happened.

    Args:
        store: Of the collection.
        path: The file.
        into: Name of the collection.
        space_id: The space of its vectors, where the file does not say; see `declared_space`.
        spec: Of the collection to be made, instead of what the file or ``space_id`` give; the file's
            rows are then believed where they say how they were decoded.
        metric: How the vectors of the collection to be made are compared; None for the file's, or ``cosine``.
        allow_mixed_decode: As of `Collection.upsert`.
        batch_rows: Rows of one commit.

    Raises:
        InvalidArgument: Not such a file, a row without an id, a value that can't be stored, no space, or
            another metric than the collection's.
        SpaceMismatch: The file, ``space_id``, ``spec`` and the collection do not agree.
        DecodeModeMismatch: Rows of another decode mode than the collection's.
        StorageError: It can't be written, or a newer Trunkline wrote the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = str(path)
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            check_columns(schema, name)
            wanted, recorded = _spec_of(file, name, space_id, spec)
            origin = Origin(name, wanted.decode, trusted=recorded or spec is not None)
            batches = _parquet_rows(file, origin, batch_rows)
            return _write(store, into, wanted, batches, metric, recorded, allow_mixed_decode)
    except (OSError, pa.ArrowException) as exc:
        raise InvalidArgument(f"{name} can't be read as Parquet: {exc}") from exc


def import_npy(
    store: CollectionStore,
    matrix_path: str | Path,
    ids_path: str | Path,
    into: str,
    space_id: str,
    *,
    metric: str | None = None,
    batch_rows: int = _BATCH_ROWS,
) -> Imported:
    """Reads a NumPy matrix and its ids into a collection, which is made where there is none.

    Args:
        store: Of the collection.
        matrix_path: A ``.npy`` file of floats, (N, dim); read as it is needed.
        ids_path: N ids, one a line in UTF-8; JSON strings where the file's name ends in ``.jsonl``.
        into: Name of the collection.
        space_id: The space of the vectors; see `declared_space`.
        metric: How the vectors of the collection to be made are compared; None for ``cosine``.
        batch_rows: Rows of one commit.

    Raises:
        InvalidArgument: Not such files, not as many ids as rows, an empty id, naming its line, or another
            metric than the collection's.
        SpaceMismatch: The collection holds vectors of another space.
        DecodeModeMismatch: The collection holds vectors of a known decode mode.
        StorageError: It can't be written.
    """
    matrix = _open_matrix(matrix_path)
    lines = sum(1 for _ in _ids(ids_path))
    if lines != len(matrix):
        raise InvalidArgument(
            f"{ids_path} holds {lines} ids, and {matrix_path} {len(matrix)} rows; each row needs one id"
        )
    spec = _declared(space_id, matrix.shape[1], matrix.dtype.itemsize == np.dtype(np.float16).itemsize, False)
    return _write(
        store, into, spec, _matrix_batches(matrix, _ids(ids_path), batch_rows), metric, False, False
    )


def _write(
    store: CollectionStore,
    into: str,
    spec: CollectionSpec,
    batches: Iterator[list[Row]],
    metric: str | None,
    recorded: bool,
    allow_mixed_decode: bool,
) -> Imported:
    spec = spec if metric is None else replace(spec, metric=metric)
    first = next(batches, [])
    created = not store.exists(into) if "@" not in into else False
    target: Collection = store.open_or_create(into, spec) if created else store.open(into)
    target.check_space(spec.space_id)
    if metric not in (None, target.metric):
        raise InvalidArgument(
            f"collection {target.name!r} compares its vectors by {target.metric}, which stays; leave out the metric "
            f"{metric!r}, or import into a new collection"
        )
    good = bad = 0
    version = target.version
    # What a collection had mixed when it was exported, it may hold again.
    mixed = allow_mixed_decode or (created and recorded)
    for rows in _chained(first, batches):
        version = target.upsert(rows, space_id=spec.space_id, decode=None, allow_mixed_decode=mixed)
        failed = sum(row.status == "error" for row in rows)
        good, bad = good + len(rows) - failed, bad + failed
    return Imported(target.name, version, good, bad, created)


def _chained(first: list[Row], others: Iterator[list[Row]]) -> Iterator[list[Row]]:
    if first:
        yield first
    yield from others


def _spec_of(
    file: Any, name: str, space_id: str | None, spec: CollectionSpec | None
) -> tuple[CollectionSpec, bool]:
    """The collection that a file's rows belong into, and whether Trunkline wrote the file."""
    metadata = file.schema_arrow.metadata or {}
    if CHANGES_KEY in metadata:
        raise InvalidArgument(f"{name} holds the changes since a version, not a collection; export in full")
    recorded = RECORD_KEY in metadata
    found = read_record(metadata, name).spec if recorded else spec
    if found is None:
        if space_id is None:
            raise InvalidArgument(
                f"{name} does not say which space its vectors lie in; declare it (--space NAME), and use the "
                "same name for all vectors of that model"
            )
        return _declared_of(file, name, space_id), False
    stated = {found.space_id, *([declared_space(space_id)] if space_id else [])}
    stated |= set() if spec is None else {spec.space_id}
    if len(stated) > 1:
        raise SpaceMismatch(
            f"{name} holds vectors of space {found.space_id}, and was said to hold space "
            f"{', '.join(sorted(stated - {found.space_id}))}; import it without saying so, or name the right file"
        )
    return (found if spec is None else spec), recorded


def _declared_of(file: Any, name: str, space_id: str) -> CollectionSpec:
    import pyarrow as pa

    schema = file.schema_arrow
    kind = schema.field("embedding").type
    multi = "label" in schema.names and not (
        pa.types.is_dictionary(schema.field("label").type) or schema.field("label").type.num_fields == 0
    )
    dim = kind.list_size if pa.types.is_fixed_size_list(kind) else _first_dim(file, name)
    return _declared(space_id, dim, kind.value_type == pa.float16(), multi)


def _first_dim(file: Any, name: str) -> int:
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=["embedding"]):
        for vector in batch.column(0).drop_null():
            return len(vector)
    raise InvalidArgument(f"{name} holds no vector, so its dimension is not known; nothing was imported")


def _declared(space_id: str, dim: int, half: bool, multi_label: bool) -> CollectionSpec:
    dtype: StoredFloat = "float16" if half else "float32"
    return CollectionSpec(
        space_id=declared_space(space_id),
        dim=dim,
        model="",
        artifact_id="",
        decode="unknown",
        dtype=dtype,
        multi_label=multi_label,
        declared=True,
    )


def _parquet_rows(file: Any, origin: Origin, batch_rows: int) -> Iterator[list[Row]]:
    start = 0
    for batch in file.iter_batches(batch_size=batch_rows):
        yield rows_from(batch, origin, start)
        start += batch.num_rows


def _open_matrix(path: str | Path) -> NDArray[np.floating[Any]]:
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as exc:
        raise InvalidArgument(f"{path} can't be read as a NumPy matrix: {exc}") from exc
    if not isinstance(matrix, np.ndarray):
        matrix.close()
        raise InvalidArgument(f"{path} holds several arrays; save the matrix alone, with numpy.save")
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or matrix.dtype.itemsize > 8 or not matrix.shape[1]:
        raise InvalidArgument(
            f"{path} holds {matrix.dtype} of shape {matrix.shape}; it must hold float16, 32 or 64 of shape (N, dim)"
        )
    return matrix


def _ids(path: str | Path) -> Iterator[str]:
    """The ids in a file, in order.

    Raises:
        InvalidArgument: Naming the line.
    """
    number = 0
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                text = json.loads(line) if Path(path).suffix == ".jsonl" else line.rstrip("\n")
                if not isinstance(text, str) or not text:
                    raise InvalidArgument(f"{path}: line {number} holds no id; give every row an id")
                yield text
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as exc:
        raise InvalidArgument(f"{path} can't be read as ids after line {number}: {exc}") from exc


def _matrix_batches(
    matrix: NDArray[np.floating[Any]], ids: Iterator[str], batch_rows: int
) -> Iterator[list[Row]]:
    for start in range(0, len(matrix), batch_rows):
        part: Sequence[str] = list(islice(ids, batch_rows))
        yield matrix_rows(matrix[start : start + batch_rows], part, "unknown")
