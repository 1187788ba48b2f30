"""A graph of near neighbours (HNSW)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index.exact import ranked, rescored
from trunkline_service.index.kinds.faiss_search import Answers, check_fits, library, shared_out
from trunkline_service.index.kinds.files import write_index
from trunkline_service.index.options import IndexKind


class Hnsw:
    """An HNSW of FAISS over vectors; ``effort`` is ``efSearch``, the candidates that are kept.

    Args:
        index: FAISS's, which holds the vectors too; it is not changed any more.
        vectors: float32 (N, dim), prepared; may be memory-mapped.
        metric: Of the vectors.
        parameters: ``M`` and ``efConstruction``.

    Raises:
        IndexDamaged: The index is not of these vectors.
    """

    kind: IndexKind = "hnsw"

    def __init__(
        self, index: Any, vectors: NDArray[np.float32], metric: str, parameters: dict[str, int]
    ) -> None:
        check_fits(index, vectors, metric)
        self.parameters = parameters
        self._index = index
        self._vectors = np.asarray(vectors)
        self._metric = metric
        graph = index.hnsw
        links = 4 * graph.neighbors.size() + 8 * graph.offsets.size() + 4 * graph.levels.size()
        self.nbytes = int(self._vectors.nbytes + links)

    def __len__(self) -> int:
        return len(self._vectors)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        effort: int,
        allowed: NDArray[np.bool_] | None = None,
        threads: int = 1,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `Approximate.search`."""
        faiss = library()

        # Of the candidates that are kept, k are answered; all that may be found of them, as a walk with a
        # selector ends in the midst of rows that may not be.
        kept = min(max(effort, k), len(self))
        wanted = min(k, len(self)) if allowed is None else kept
        parameters = faiss.SearchParametersHNSW(efSearch=kept)

        def search(part: NDArray[np.float32]) -> Answers:
            positions = np.full((len(part), wanted), -1, np.int64)
            if len(part):
                distances = np.empty(positions.shape, np.float32)
                self._index.search(part, wanted, params=parameters, D=distances, I=positions)
            if allowed is not None:
                positions = np.where(allowed[positions], positions, -1)
            return ranked(rescored(part, self._vectors, positions, self._metric), positions, k)

        return shared_out(search, queries, threads)

    def write(self, folder: Path) -> None:
        """See `Approximate.write`."""
        write_index(self._index, folder)
