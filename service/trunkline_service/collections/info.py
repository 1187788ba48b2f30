"""What a collection holds, counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
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
        size_bytes: Bytes on disk of all versions together; None where the store is not local.
    """

    name: str
    version: int
    spec: CollectionSpec
    created_at: str
    rows: int
    errors: int
    labelled: int
    labels: Mapping[str, int]
    size_bytes: int | None


@dataclass(frozen=True)
class RowCounts:
    """Rows by status, and those of status ``ok`` by label."""

    rows: int
    errors: int
    labels: Mapping[str, int]


def count_rows(dataset: Any) -> RowCounts:
    """Counts the rows of a dataset; may raise Lance's own errors."""
    import pyarrow.compute as pc

    statuses: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    for batch in dataset.scanner(columns=["status", "label"]).to_batches():
        status = batch.column("status")
        statuses.update(_counts(status))
        labels.update(_counts(batch.column("label").filter(pc.equal(status, "ok")).drop_null()))
    ranked = dict(sorted(labels.items(), key=lambda item: (-item[1], item[0])))
    return RowCounts(rows=statuses["ok"], errors=statuses["error"], labels=ranked)


def bytes_on_disk(folder: Path) -> int:
    """Bytes of the files under a folder; files that vanish meanwhile count nothing."""
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(root) / name).stat().st_size
            except FileNotFoundError:
                continue
    return total


def _counts(column: Any) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in column.value_counts().to_pylist()}
