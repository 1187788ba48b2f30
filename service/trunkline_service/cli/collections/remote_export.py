"""A server's collection into a file of this machine, as an export where the data is would write it."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import trunkline
from trunkline.rows import Scalar
from trunkline_service.collections.exchange.whole import check_folder, whole_files, write_parquet
from trunkline_service.collections.schema import COLUMNS, RECORD_KEY, CollectionRecord, arrow_schema
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import InvalidArgument

_LISTS = {
    "id": "ids",
    "label": "labels",
    "split": "splits",
    "source": "sources",
    "content_hash": "content_hashes",
    "etag": "etags",
    "size": "sizes",
    "mtime": "mtimes",
    "decode": "decodes",
    "status": "statuses",
    "error": "errors",
    "job": "jobs",
    "embedded_at": "embedded_at",
}


def write_parquet_file(
    client: trunkline.Client,
    reference: str,
    target: Path,
    where: str | None,
    parameters: Sequence[Scalar],
) -> int:
    """Writes every column of one version; gives the number of rows.

    Raises:
        InvalidArgument: The folder of ``target`` does not exist, or a column of a type unknown here.
        trunkline.TrunklineError: A call failed; ``target`` is as it was.
    """
    check_folder(target)
    info = client.collection(reference)
    schema = _schema(info)
    pinned = f"{info.name}@{info.version}"
    scan = client.scan(pinned, where=where, parameters=parameters, dtype=_floats(info))
    return write_parquet(target, schema, (_batch(rows, schema) for rows in scan))


def write_npy(
    client: trunkline.Client,
    reference: str,
    target: Path,
    where: str | None,
    parameters: Sequence[Scalar],
) -> int:
    """Writes the vectors of status ``ok`` of one version, and their ids beside them; gives their number.

    Raises:
        InvalidArgument: The folder of ``target`` does not exist.
        trunkline.TrunklineError: A call failed; the files are as they were.
    """
    check_folder(target)
    info = client.collection(reference)
    pinned = f"{info.name}@{info.version}"
    # The condition is sent as it was written, and rows of errors are left out here: the server takes what a condition
    # of ours would add for a part of the user's, which may be as long as is allowed.
    count, broken = 0, False
    for rows in client.scan(pinned, ["status"], where, parameters=parameters):
        ids = _ids(rows)
        count += len(ids)
        broken = broken or any("\n" in row_id or "\r" in row_id for row_id in ids)
    plain, lines = (target.with_name(f"{target.name}.ids.{form}") for form in ("txt", "jsonl"))
    listed, stale = (lines, plain) if broken else (plain, lines)
    with whole_files(target, listed) as (matrix, names):
        shape = (count, info.dim)
        np.lib.format.write_array_header_1_0(matrix, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for rows in client.scan(pinned, ["status", "embedding"], where, parameters=parameters):
            assert rows.vectors is not None
            matrix.write(np.ascontiguousarray(rows.vectors[_embedded(rows)], "<f4").data)
            texts = (json.dumps(row_id) if broken else row_id for row_id in _ids(rows))
            names.write("".join(f"{text}\n" for text in texts).encode())
    stale.unlink(missing_ok=True)
    return count


def _embedded(rows: trunkline.Rows) -> NDArray[np.bool_]:
    """Which rows have a vector, (N,)."""
    return np.array([status == "ok" for status in rows.statuses], np.bool_)


def _ids(rows: trunkline.Rows) -> list[str]:
    """Of the rows that have a vector."""
    return list(itertools.compress(rows.ids, _embedded(rows)))


def _floats(info: trunkline.CollectionInfo) -> Any:
    return "float16" if info.dtype == "float16" else "float32"


def _schema(info: trunkline.CollectionInfo) -> Any:
    """The columns that the collection's dataset has, with its record."""
    import pyarrow as pa

    spec = CollectionSpec(
        space_id=info.space_id,
        dim=info.dim,
        model=info.model,
        artifact_id=info.artifact_id,
        decode=info.decode,  # type: ignore[arg-type]  # the spec itself checks both
        # A client says False of declared spaces, whose record says nothing of weights.
        pretrained=info.pretrained or info.declared,
        dtype=info.dtype,  # type: ignore[arg-type]
        multi_label=info.multi_label,
        metric=info.metric,
        declared=info.declared,
    )
    made = info.created_at or datetime.now(UTC)
    record = CollectionRecord(spec, uid=uuid.uuid4().hex, created_at=made.isoformat())
    types = {str(kind): kind for kind in _own_types()}
    fields = list(arrow_schema(spec))
    for name, kind in info.columns.items():
        if name in COLUMNS:
            continue
        if kind not in types:
            raise InvalidArgument(
                f"column {name!r} holds {kind}, which this trunkline can't write; upgrade it"
            )
        fields.append(pa.field(name, types[kind]))
    return pa.schema(fields, metadata={RECORD_KEY: record.to_json().encode()})


def _own_types() -> Iterator[Any]:
    import pyarrow as pa

    yield from (pa.utf8(), pa.bool_(), pa.int64(), pa.float64(), pa.timestamp("us", tz="UTC"))


def _batch(rows: trunkline.Rows, schema: Any) -> Any:
    import pyarrow as pa

    arrays = []
    for field in schema:
        if field.name == "embedding":
            arrays.append(_vectors(rows, field.type))
        elif field.name in _LISTS:
            arrays.append(pa.array(getattr(rows, _LISTS[field.name]), field.type))
        else:
            arrays.append(pa.array([own.get(field.name) for own in rows.metadata], field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _vectors(rows: trunkline.Rows, kind: Any) -> Any:
    import pyarrow as pa

    assert rows.vectors is not None
    failed = np.array([status != "ok" for status in rows.statuses], bool)
    floats = pa.array(np.ascontiguousarray(rows.vectors).reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(floats, type=kind, mask=pa.array(failed))
