"""Columns and embeddings of one version of a collection, row by row in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.convert import valid_vectors
from trunkline_service.errors import StorageError
from trunkline_service.heads.training.gathered import Gathered, InMemory, OnDisk

_TEXT_ROWS = 65_536
# Buffers of larger batches are mapped anew, page by page, for every batch; see `EmbeddingMatrix`.
_VECTOR_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Source:
    """Rows with an embedding, of one version of a collection.

    Attributes:
        collection: It.
        version: Of it.
        condition: An SQL condition on the rows, or None.
    """

    collection: Collection
    version: int
    condition: str | None

    def columns(self, names: Sequence[str]) -> dict[str, Any]:
        """Arrow chunked arrays of (N,) values, by the names of their columns.

        Raises:
            InvalidArgument: An unknown column, or a condition that can't be used.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = list(dict.fromkeys(names))
        batches = [
            batch.filter(pc.equal(batch.column("status"), "ok"))
            for batch in self.collection.scan(
                list(dict.fromkeys([*wanted, "status"])), self.condition, _TEXT_ROWS, self.version
            )
        ]
        return {
            name: pa.chunked_array([batch.column(name) for batch in batches] or [pa.array([], pa.utf8())])
            for name in wanted
        }

    def size(self, *parts: NDArray[np.bool_]) -> int:
        """Bytes of the embeddings of parts of the rows, each (N,)."""
        return 4 * self.collection.spec.dim * sum(int(part.sum()) for part in parts)

    def embeddings(
        self, *parts: NDArray[np.bool_], in_memory: bool, folder: Path | None
    ) -> tuple[NDArray[np.float32], ...]:
        """The embeddings of parts of the rows, read-only, from one pass.

        Args:
            parts: For each part (N,) which rows it has.
            in_memory: Or mapped from files.
            folder: Of these; see `OnDisk`.

        Raises:
            StorageError: The disk is full, or the collection can't be read.
        """
        import pyarrow as pa

        dim = self.collection.spec.dim
        count, end = len(parts[0]), 0
        with ExitStack() as stack:
            gathered: list[Gathered] = []
            for part in parts:
                own = int(part.sum())
                # A file of no bytes can't be mapped.
                gathered.append(InMemory(own, dim) if in_memory or not own else OnDisk(own, dim, folder))
                stack.callback(gathered[-1].close)
            for batch in self.collection.scan(["embedding"], self.condition, _VECTOR_ROWS, self.version):
                vectors = valid_vectors(batch.column("embedding"))
                start, end = end, end + len(vectors)
                if end > count:
                    break
                for part, rows in zip(parts, gathered, strict=True):
                    here = part[start:end]
                    rows.add(vectors if here.all() else vectors[here])
            if end != count:
                raise StorageError(
                    f"collection {self.collection.name!r}, version {self.version}: {count} rows say that they have "
                    f"an embedding, and {'more' if end > count else end} have one; restore it from a copy"
                )
            if not in_memory:
                # Arrow keeps what its batches took, which is no small part of what is left for the fit.
                pa.default_memory_pool().release_unused()
            return tuple(rows.whole() for rows in gathered)
