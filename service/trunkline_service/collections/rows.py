"""One row of a collection: an image that was embedded, or one that could not be, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.metadata import Scalar, check_scalar
from trunkline_service.collections.spec import RowDecode
from trunkline_service.errors import InvalidArgument

RowStatus = Literal["ok", "error"]
Label: TypeAlias = str | tuple[str, ...] | None
"""A class, several where the collection is multi-label, or None for unlabelled."""

_TEXT = ("split", "source", "content_hash", "etag", "error", "job")


@dataclass(frozen=True, eq=False)
class Row:
    """One row: ``ok`` with an embedding, or ``error`` with a reason. Nothing in between exists.

    Rows compare by identity, because arrays have no single truth value.

    Attributes:
        id: The key; one row an id.
        embedding: Finite float32 of shape (dim,); None for an error row.
        label: The class or classes that people gave it.
        split: ``train``, ``test`` and the like, where the source has such.
        source: Where the bytes came from: a path or a URL.
        content_hash: Hash of the bytes.
        etag: The object store's tag of the bytes.
        size: Bytes of the source.
        mtime: Its modification time, seconds since the epoch.
        decode: How its bytes were decoded.
        status: ``ok`` or ``error``.
        error: Why there is no embedding.
        job: The run that wrote it.
        metadata: The users' own columns, by name.
        embedded_at: The moment of the write, with a time zone; None where it is yet to be written.

    Raises:
        InvalidArgument: A row that is neither, naming it and what is wrong.
    """

    id: str
    embedding: NDArray[np.float32] | None
    label: Label = None
    split: str | None = None
    source: str = ""
    content_hash: str = ""
    etag: str | None = None
    size: int | None = None
    mtime: float | None = None
    decode: RowDecode = "exact"
    status: RowStatus = "ok"
    error: str | None = None
    job: str | None = None
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    embedded_at: datetime | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidArgument("a row's id is empty; give every row an id of its own")
        self._check_text()
        for name, value in (*self.metadata.items(), ("embedded_at", self.embedded_at)):
            check_scalar(self.id, name, value)
        if self.decode not in get_args(RowDecode):
            raise InvalidArgument(
                f"row {self.id!r}: decode is {self.decode!r}; it can be {', '.join(get_args(RowDecode))}"
            )
        if self.status == "ok":
            self._check_ok()
        elif self.status == "error":
            self._check_error()
        else:
            raise InvalidArgument(f"row {self.id!r}: status is {self.status!r}; it can be 'ok' or 'error'")

    def _check_text(self) -> None:
        labels = self.label if isinstance(self.label, tuple) else (self.label,)
        texts = [(name, getattr(self, name)) for name in ("id", *_TEXT)]
        for name, value in (*texts, *(("label", label) for label in labels)):
            try:
                if value is not None:
                    value.encode()
            except UnicodeEncodeError as exc:
                raise InvalidArgument(
                    f"row {self.id!r}: its {name} is no valid Unicode text and can't be stored; escape it"
                ) from exc

    def _check_ok(self) -> None:
        vector = self.embedding
        if vector is None or self.error is not None:
            raise InvalidArgument(
                f"row {self.id!r}: a row of status 'ok' has an embedding and no error; "
                "store what failed with status 'error'"
            )
        if vector.dtype != np.float32 or vector.ndim != 1:
            raise InvalidArgument(
                f"row {self.id!r}: an embedding is float32 of shape (dim,); got {vector.dtype} {vector.shape}"
            )
        if not np.isfinite(vector).all():
            raise InvalidArgument(
                f"row {self.id!r}: its embedding holds NaN or infinity; store it with status 'error' instead"
            )

    def _check_error(self) -> None:
        if self.embedding is not None or not self.error:
            raise InvalidArgument(f"row {self.id!r}: a row of status 'error' has a reason and no embedding")


def stored_row(**values: Any) -> Row:
    """A row as it was stored. It was checked when it was written; checking it again would take most of a read."""
    row = object.__new__(Row)
    row.__dict__.update(values)
    return row
