"""Every vector of a collection as one matrix, at nearly the speed of reading a plain array file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.convert import valid_vectors
from trunkline_service.collections.spec import CollectionSpec

# Of 1,024 to 100,000 rows of 384 floats the fastest, most of all where some rows have no vector:
# buffers of larger batches are mapped anew, page by page, for every batch.
_BATCH_ROWS = 1024
_TEXT = ("id", "label", "split", "source")


@dataclass(frozen=True, eq=False)
class EmbeddingMatrix:
    """The rows of status ``ok`` of one version of a collection, column by column.

    The texts are Arrow large-string arrays: 20 million Python strings would cost more than the
    vectors. ``.to_pylist()`` and ``.take(positions)`` turn them into Python's.

    Attributes:
        spec: The identity of the vectors.
        uid: The collection's, see :class:`CollectionRecord`.
        version: The version that was read.
        row_ids: uint64 (N,), stable through upserts of the same id and compaction.
        embeddings: float32 (N, dim), C-contiguous.
        ids: N strings.
        labels: N strings or nulls.
        splits: N strings or nulls.
        sources: N strings.
    """

    spec: CollectionSpec
    uid: str
    version: int
    row_ids: NDArray[np.uint64]
    embeddings: NDArray[np.float32]
    ids: Any
    labels: Any
    splits: Any
    sources: Any

    def __len__(self) -> int:
        return len(self.row_ids)

    def without_embeddings(self) -> EmbeddingMatrix:
        """The same rows with vectors of no floats, for who keeps the vectors in another form."""
        return replace(self, embeddings=np.empty((len(self), 0), np.float32))


def read_matrix(dataset: Any, spec: CollectionSpec, uid: str, where: str | None) -> EmbeddingMatrix:
    """The matrix of a dataset at the version it is open at; may raise Lance's own errors.

    Texts and vectors are read in two scans, which gives the number of rows before the vectors
    come, so that these go straight to their place.
    """
    texts = dataset.to_table(columns=[*_TEXT, "status"], filter=where, with_row_id=True)
    texts = texts.filter(_is_ok(texts))
    row_ids: NDArray[np.uint64] = texts.column("_rowid").to_numpy()
    embeddings = _read_vectors(dataset, where, len(row_ids), spec.dim)
    ids, labels, splits, sources = (_large(texts.column(name)) for name in _TEXT)
    return EmbeddingMatrix(
        spec=spec,
        uid=uid,
        version=dataset.version,
        row_ids=row_ids,
        embeddings=embeddings,
        ids=ids,
        labels=labels,
        splits=splits,
        sources=sources,
    )


def read_row_ids(dataset: Any, where: str | None) -> NDArray[np.uint64]:
    """Row ids, uint64 (n,), of the rows that a filter lets through; may raise Lance's own errors."""
    row_ids: NDArray[np.uint64] = (
        dataset.to_table(columns=[], filter=where, with_row_id=True).column("_rowid").to_numpy()
    )
    return row_ids


def _read_vectors(dataset: Any, where: str | None, rows: int, dim: int) -> NDArray[np.float32]:
    matrix = np.empty((rows, dim), np.float32)
    start = 0
    for batch in dataset.scanner(columns=["embedding"], filter=where, batch_size=_BATCH_ROWS).to_batches():
        vectors = valid_vectors(batch.column("embedding"))
        # Raises where the vectors outnumber the rows of status ok: the shapes differ.
        matrix[start : start + len(vectors)] = vectors
        start += len(vectors)
    if start != rows:
        raise RuntimeError(f"{rows} rows are ok, but {start} have a vector: no upsert writes that")
    return matrix


def _is_ok(table: Any) -> Any:
    import pyarrow.compute as pc

    return pc.equal(table.column("status"), "ok")


def _large(column: Any) -> Any:
    import pyarrow as pa

    return pa.concat_arrays(column.cast(pa.large_utf8()).chunks or [pa.array([], pa.large_utf8())])
