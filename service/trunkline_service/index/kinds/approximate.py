"""The seam between the searcher and FAISS."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index.options import IndexKind


class Approximate(Protocol):
    """An immutable structure over N vectors; positions 0..N-1 are the order they were given in.

    Safe to share among threads that search.

    Attributes:
        kind: What it is.
        nbytes: Bytes that it keeps in memory, or maps and touches when it is searched.
        parameters: By FAISS's names.
    """

    kind: IndexKind
    nbytes: int
    parameters: dict[str, int]

    def __len__(self) -> int: ...

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        effort: int,
        allowed: NDArray[np.bool_] | None = None,
        threads: int = 1,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best positions that this effort finds, best first.

        Args:
            queries: float32 (Q, dim), prepared (`metric.prepared`).
            k: At least 1.
            effort: ``efSearch`` or ``nprobe``; more finds more and takes longer.
            allowed: bool (N,): the positions that may be found; None for all.
            threads: The most that it may use.

        Returns:
            Exact scores (`metric.pair_scores`), float32 (Q, k), and positions, int64 (Q, k). Where fewer
            are found, the rest is ``-inf`` and ``-1``.
        """
        ...

    def write(self, folder: Path) -> None:
        """Writes its files (never the vectors' file) into a folder, in FAISS's own format."""
        ...
