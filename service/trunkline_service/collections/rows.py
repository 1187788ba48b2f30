"""One row of a collection: an image that was embedded, or one that could not be, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument
from trunkline_service.settings import DecodeMode

RowStatus = Literal["ok", "error"]

_TEXT = ("label", "split", "source", "content_hash", "etag", "error", "job")


@dataclass(frozen=True, eq=False)
class Row:
    """One row: ``ok`` with an embedding, or ``error`` with a reason. Nothing in between exists.

    Rows compare by identity, because arrays have no single truth value.

    Attributes:
        id: The key; one row an id.
        embedding: Finite float32 of shape (dim,); None for an error row.
        label: The class that people gave it.
        split: ``train``, ``test`` and the like, where the source has such.
        source: Where the bytes came from, relative to the source's root.
        content_hash: Hash of the bytes.
        etag: The object store's tag of the bytes.
        size: Bytes of the source.
        mtime: Its modification time, seconds since the epoch.
        decode: How its bytes were decoded.
        status: ``ok`` or ``error``.
        error: Why there is no embedding.
        job: The run that wrote it.

    Raises:
        InvalidArgument: A row that is neither, naming it and what is wrong.
    """

    id: str
    embedding: NDArray[np.float32] | None
    label: str | None = None
    split: str | None = None
    source: str = ""
    content_hash: str = ""
    etag: str | None = None
    size: int | None = None
    mtime: float | None = None
    decode: DecodeMode = "exact"
    status: RowStatus = "ok"
    error: str | None = None
    job: str | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidArgument("a row's id is empty; give every row an id of its own")
        self._check_text()
        if self.decode not in get_args(DecodeMode):
            raise InvalidArgument(f"row {self.id!r}: decode is {self.decode!r}; it can be 'exact' or 'fast'")
        if self.status == "ok":
            self._check_ok()
        elif self.status == "error":
            self._check_error()
        else:
            raise InvalidArgument(f"row {self.id!r}: status is {self.status!r}; it can be 'ok' or 'error'")

    def _check_text(self) -> None:
        for name in ("id", *_TEXT):
            value: str | None = getattr(self, name)
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


class RowState(NamedTuple):
    """What a job must know of a row to tell whether its source is still the same."""

    status: RowStatus
    size: int | None
    mtime: float | None
    content_hash: str
