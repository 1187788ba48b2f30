"""Rows out of a collection: by id, and streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from trunkline._wire import floats, methods
from trunkline._wire.collections import id_list
from trunkline._wire.portions import MAX_ENTRIES
from trunkline._wire.question import Question, Series, Stream
from trunkline._wire.rows import merged, rows_from
from trunkline._wire.scalars import values_to
from trunkline.exceptions import Internal, InvalidRequest, SpaceMismatch
from trunkline.rows import Rows, Scalar
from trunkline.values import ServerInfo
from trunkline_protos.v1 import collections_pb2


class GetRows(Series[Rows, Rows]):
    """Rows by id, all of the version that the first reply was of.

    Args:
        reference: A collection.
        ids: The keys.
        vectors: Whether to bring them.
        dtype: Their floats.

    Raises:
        InvalidRequest: An id that is no text, or no dtype.
    """

    def __init__(self, reference: str, ids: str | Iterable[str], vectors: bool, dtype: str) -> None:
        self._reference = reference
        self._ids = id_list(ids)
        self._vectors = vectors
        self._dtype = check_dtype(dtype)

    def questions(self, info: ServerInfo) -> Iterator[Question[Rows]]:
        """As many ids each as the server takes."""
        count = info.max_images_per_request or MAX_ENTRIES
        for start in range(0, len(self._ids) or 1, count):
            ids = self._ids[start : start + count]
            request = collections_pb2.GetRowsRequest(
                collection=self._reference,
                ids=ids,
                with_embeddings=self._vectors,
                type=floats.FLOAT_TYPES[self._dtype],
            )
            items = range(start, start + len(ids))
            yield Question(methods.GET_ROWS, request, partial(self._read, ids), items)

    def merge(self, answers: Sequence[Rows]) -> Rows:
        """All rows."""
        return merged(answers)

    def _read(self, ids: list[str], reply: collections_pb2.RowBatch) -> Rows:
        rows = rows_from(reply, None, self._vectors, self._dtype)
        if rows.ids != ids:
            raise Internal(f"the reply to {len(ids)} ids has other rows than these")
        self._reference = f"{rows.collection}@{rows.version}"
        return rows


class Scan(Stream[Rows]):
    """All rows of one version, or those of a condition, batch by batch.

    Args:
        reference: A collection.
        columns: To be filled in beside the ids; None for all.
        where: A condition, or None.
        parameters: Of the condition.
        vectors: Whether to bring them; None: where ``columns`` is None or names ``embedding``.
        dtype: Their floats.
        batch_size: The most rows of a batch; None for what the server finds good.

    Raises:
        InvalidRequest: Columns, a dtype, a batch size or a parameter that can't be used.
    """

    method = methods.SCAN

    def __init__(
        self,
        reference: str,
        columns: Iterable[str] | None,
        where: str | None,
        parameters: Sequence[Scalar],
        vectors: bool | None,
        dtype: str,
        batch_size: int | None,
    ) -> None:
        if isinstance(columns, str):
            raise InvalidRequest(f"columns is the text {columns!r}; pass a list of names: [{columns!r}]")
        # The ids come always; naming them keeps an empty list from meaning all.
        self._columns = None if columns is None else ["id", *columns]
        if batch_size is not None and not 0 < batch_size < 2**32:
            raise InvalidRequest(f"batch_size is {batch_size!r}; it must be a positive integer")
        if vectors is None:
            vectors = self._columns is None or "embedding" in self._columns
        elif not vectors and self._columns is not None:
            self._columns = [name for name in self._columns if name != "embedding"]
        self._vectors = vectors
        self._dtype = check_dtype(dtype)
        self._read_rows = 0
        self._first: Rows | None = None
        self.request = collections_pb2.ScanRequest(
            collection=reference,
            columns=self._columns or (),
            where=where or "",
            parameters=values_to(parameters),
            with_embeddings=vectors,
            type=floats.FLOAT_TYPES[self._dtype],
            batch_size=batch_size or 0,
        )

    @property
    def begun(self) -> bool:
        """Whether a batch was read."""
        return self._first is not None

    @property
    def progress(self) -> str:
        """How far it came."""
        assert self._first is not None
        pinned = f"{self._first.collection}@{self._first.version}"
        return f"the scan broke off after {self._read_rows} rows; scan {pinned!r} for the same rows again"

    def read(self, reply: collections_pb2.RowBatch) -> Rows:
        """A batch.

        Raises:
            Internal: It breaks the contract.
            SpaceMismatch: It is of another version or space than the first.
        """
        rows = rows_from(reply, self._columns, self._vectors, self._dtype)
        self._first = self._first or rows
        if (rows.collection, rows.version, rows.space_id) != (
            self._first.collection,
            self._first.version,
            self._first.space_id,
        ):
            raise SpaceMismatch(
                f"a batch of {rows.collection}@{rows.version}, space {rows.space_id}, came in a scan of "
                f"{self._first.collection}@{self._first.version}, space {self._first.space_id}"
            )
        self._read_rows += len(rows)
        return rows


def check_dtype(dtype: str) -> str:
    """``dtype`` itself.

    Raises:
        InvalidRequest: Not float32 or float16.
    """
    if dtype not in floats.FLOAT_TYPES:
        raise InvalidRequest(f"dtype is {dtype!r}; it can be 'float32' or 'float16'")
    return dtype
