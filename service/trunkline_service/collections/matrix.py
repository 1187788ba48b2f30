"""Every vector of a collection as one matrix, at nearly the speed of reading a plain array file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.convert import valid_vectors
from trunkline_service.collections.spec import CollectionSpec

# Of 1,024 to 100,000 rows of 384 floats among the fastest, most of all where some rows have no vector:
# buffers of larger batches are mapped anew, page by page, for every batch.
_BATCH_ROWS = 1024
_TEXT = ("id", "label", "split", "source")


class Texts(NamedTuple):
    """The texts of a matrix's rows: Arrow large-string arrays, labels lists of them where multi-label."""

    ids: Any
    labels: Any
    splits: Any
    sources: Any


@dataclass(frozen=True, eq=False)
class EmbeddingMatrix:
    """The rows of status ``ok`` of one version of a collection, column by column.

    The texts are Arrow large-string arrays (labels: lists of them where the collection is
    multi-label): 20 million Python strings would cost more than the vectors. ``.to_pylist()`` and
    ``.take(positions)`` turn them into Python's. They are read when the first of them is asked for, of
    the same version, and raise ``StorageError`` where that version was removed meanwhile.

    Attributes:
        spec: The identity of the vectors.
        uid: The collection's, see :class:`CollectionRecord`.
        version: The version that was read.
        row_ids: uint64 (N,), stable through upserts of the same id and compaction.
        embeddings: float32 (N, dim), C-contiguous.
        read_texts: Reads the texts.
    """

    spec: CollectionSpec
    uid: str
    version: int
    row_ids: NDArray[np.uint64]
    embeddings: NDArray[np.float32]
    read_texts: Callable[[], Texts] = field(repr=False)

    def __len__(self) -> int:
        return len(self.row_ids)

    @property
    def ids(self) -> Any:
        """N strings."""
        return self._texts.ids

    @property
    def labels(self) -> Any:
        """N strings, or lists of strings, or nulls."""
        return self._texts.labels

    @property
    def splits(self) -> Any:
        """N strings or nulls."""
        return self._texts.splits

    @property
    def sources(self) -> Any:
        """N strings."""
        return self._texts.sources

    @cached_property
    def _texts(self) -> Texts:
        return self.read_texts()

    def without_embeddings(self) -> EmbeddingMatrix:
        """The same rows with vectors of no floats, for who keeps the vectors in another form.

        The texts are read now, so that they are there whatever becomes of the version.
        """
        texts = self._texts
        return replace(self, embeddings=np.empty((len(self), 0), np.float32), read_texts=lambda: texts)


def read_matrix(
    dataset: Any,
    spec: CollectionSpec,
    uid: str,
    where: str | None,
    translated: Callable[[], AbstractContextManager[None]],
) -> EmbeddingMatrix:
    """The matrix of a dataset at the version it is open at; may raise Lance's own errors.

    Args:
        dataset: Lance's.
        spec: Of its vectors.
        uid: Of the collection.
        where: A condition.
        translated: Gives a context in which errors of reading the texts, later, are translated.
    """

    def read_texts() -> Texts:
        with translated():
            texts = dataset.to_table(columns=[*_TEXT, "status"], filter=where)
            texts = texts.filter(_is_ok(texts))
            return Texts(*(_large(texts.column(name)) for name in _TEXT))

    row_ids, embeddings = _read_vectors(dataset, where, spec.dim)
    return EmbeddingMatrix(
        spec=spec,
        uid=uid,
        version=int(dataset.version),
        row_ids=row_ids,
        embeddings=embeddings,
        read_texts=read_texts,
    )


def read_row_ids(dataset: Any, where: str | None) -> NDArray[np.uint64]:
    """Row ids, uint64 (n,), of the rows that a filter lets through; may raise Lance's own errors."""
    row_ids: NDArray[np.uint64] = (
        dataset.to_table(columns=[], filter=where, with_row_id=True).column("_rowid").to_numpy()
    )
    return row_ids


def _read_vectors(
    dataset: Any, where: str | None, dim: int
) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Row ids and vectors of the rows that have one, which are those of status ``ok``.

    The vectors go straight to their place in a matrix for all rows. What error rows leave of it at the
    end is never touched, so it takes no memory.
    """
    most = dataset.count_rows(where)
    matrix = np.empty((most, dim), np.float32)
    row_ids = np.empty(most, np.uint64)
    end = 0
    scanner = dataset.scanner(columns=["embedding"], filter=where, batch_size=_BATCH_ROWS, with_row_id=True)
    for batch in scanner.to_batches():
        column = batch.column("embedding")
        vectors = valid_vectors(column)
        start, end = end, end + len(vectors)
        matrix[start:end] = vectors
        kept = batch.column("_rowid")
        row_ids[start:end] = kept.filter(column.is_valid()) if column.null_count else kept
    return row_ids[:end], matrix[:end]


def _is_ok(table: Any) -> Any:
    import pyarrow.compute as pc

    return pc.equal(table.column("status"), "ok")


def _large(column: Any) -> Any:
    import pyarrow as pa

    kind = pa.large_list(pa.large_utf8()) if pa.types.is_list(column.type) else pa.large_utf8()
    return pa.concat_arrays(column.cast(kind).chunks or [pa.array([], kind)])
