"""Rows of a collection: one by one, on their way in, and column by column, on their way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trunkline import _display
from trunkline.exceptions import InvalidRequest

Scalar: TypeAlias = str | bool | int | float | datetime | None
"""A value of a column of your own, or a parameter of a condition. None is null; a time has a zone."""
Label: TypeAlias = str | tuple[str, ...] | None
"""A class, several where the collection is multi-label, or None for unlabelled."""


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a collection: ``ok`` with an embedding, or ``error`` with a reason.

    Rows compare by identity, because arrays have no single truth value.

    Attributes:
        id: The key; one row an id.
        embedding: Finite floats (dim,); None for an error row.
        label: The class or classes that people gave it.
        split: ``train``, ``test`` and the like.
        source: Where the bytes came from: a path or a URL.
        content_hash: Hash of the bytes.
        etag: The object store's tag of the bytes.
        size: Bytes of the source.
        mtime: Its modification time, seconds since the epoch.
        decode: How its bytes were decoded; None for what the call says of all rows.
        status: ``ok`` or ``error``.
        error: Why there is no embedding.
        job: The run that wrote it.
        metadata: Your own columns, by name.
        embedded_at: When it was embedded last, with a time zone; None for the moment of the call.
    """

    id: str
    embedding: NDArray[np.floating] | None
    label: Label = None
    split: str | None = None
    source: str = ""
    content_hash: str = ""
    etag: str | None = None
    size: int | None = None
    mtime: float | None = None
    decode: str | None = None
    status: str = "ok"
    error: str | None = None
    job: str | None = None
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    embedded_at: datetime | None = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Rows:
    """Rows of one version of a collection, column by column: entry ``i`` of each belongs to ``ids[i]``.

    A column that was not asked for is an empty list.

    Attributes:
        collection: Its name, without alias. ``f"{collection}@{version}"`` names exactly what was read.
        version: What was read.
        space_id: Of the vectors.
        ids: The keys.
        vectors: (N, dim) float32, or float16 where it was asked for; NaN for error rows. None if they
            were not asked for.
        labels: Text; a tuple of texts where the collection is multi-label; None for unlabelled.
        splits: ``train``, ``test`` and the like, or None.
        sources: Where the bytes came from.
        content_hashes: Of the bytes.
        etags: The object store's, or None.
        sizes: Bytes, or None.
        mtimes: Seconds since the epoch, or None.
        decodes: ``exact``, ``fast`` or ``unknown``.
        statuses: ``ok`` or ``error``.
        errors: Why there is no embedding; None for rows of status ``ok``.
        jobs: The run that wrote each, or None.
        embedded_at: When each was embedded last, UTC.
        metadata: Your own columns by name, those that are not null.
        complete: Whether no column was left out.
    """

    collection: str
    version: int
    space_id: str
    ids: list[str]
    vectors: NDArray[np.floating] | None = None
    labels: list[Label] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    content_hashes: list[str] = field(default_factory=list)
    etags: list[str | None] = field(default_factory=list)
    sizes: list[int | None] = field(default_factory=list)
    mtimes: list[float | None] = field(default_factory=list)
    decodes: list[str] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    jobs: list[str | None] = field(default_factory=list)
    embedded_at: list[datetime | None] = field(default_factory=list)
    metadata: list[dict[str, Scalar]] = field(default_factory=list)
    complete: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def rows(self) -> list[Row]:
        """The same as `Row` objects, which `Client.upsert_rows` takes; made when it is first asked for.

        Raises:
            InvalidRequest: Columns or vectors were left out: rows made of the others would lose them.
        """
        if not self.complete:
            raise InvalidRequest(
                "rows needs every column; ask without columns= and with vectors, or use the lists"
            )
        assert self.vectors is not None
        columns = zip(*(getattr(self, name) for name in _LISTS.values()), strict=True)
        return [
            Row(
                embedding=self.vectors[index] if values["status"] == "ok" else None,
                **values,
            )
            for index, values in enumerate(dict(zip(_LISTS, row, strict=True)) for row in columns)
        ]

    def __repr__(self) -> str:
        facts: list[Any] = [_display.count(len(self), "row"), f"{self.collection}@{self.version}"]
        if self.vectors is not None:
            facts.append(f"dim {self.vectors.shape[1]}")
        return _display.line(type(self).__name__, facts, ())


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
    "metadata": "metadata",
    "embedded_at": "embedded_at",
}
