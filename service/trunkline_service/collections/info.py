"""What a collection holds, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trunkline_service.collections.spec import CollectionSpec


@dataclass(frozen=True)
class CollectionInfo:
    """A collection in numbers, at one version.

    Attributes:
        name: Its name.
        version: The version that was counted.
        spec: The identity of its vectors.
        created_at: ISO 8601, UTC.
        rows: Rows of status ``ok``.
        errors: Rows of status ``error``.
        labelled: Rows of status ``ok`` with a label.
        labels: Rows of each label, the most frequent first.
        size_bytes: Bytes in the store of all versions together.
    """

    name: str
    version: int
    spec: CollectionSpec
    created_at: str
    rows: int
    errors: int
    labelled: int
    labels: Mapping[str, int]
    size_bytes: int


@dataclass(frozen=True)
class RowCounts:
    """Rows by status, and those of status ``ok`` by label."""

    rows: int
    errors: int
    labelled: int
    labels: Mapping[str, int]


def count_rows(dataset: Any) -> RowCounts:
    """Counts the rows of a dataset; may raise Lance's own errors."""
    import pyarrow as pa
    import pyarrow.compute as pc

    labelled = 0
    statuses: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    for batch in dataset.scanner(columns=["status", "label"]).to_batches():
        status = batch.column("status")
        statuses.update(_counts(status))
        given = batch.column("label").filter(pc.equal(status, "ok")).drop_null()
        labelled += len(given)
        labels.update(_counts(given.flatten() if pa.types.is_list(given.type) else given))
    ranked = dict(sorted(labels.items(), key=lambda item: (-item[1], item[0])))
    return RowCounts(rows=statuses["ok"], errors=statuses["error"], labelled=labelled, labels=ranked)


def _counts(column: Any) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in column.value_counts().to_pylist()}
