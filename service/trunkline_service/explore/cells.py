"""Rows parted into cells around centroids: rows that are near each other lie in the same cell or in near ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trunkline_service.explore.live import Told
from trunkline_service.index.kinds.kmeans import fit_centroids
from trunkline_service.index.workers import Workers

Positions = NDArray[np.int64]
_Found = TypeVar("_Found")

_FEWEST, _MOST = 16, 4096
_BLOCK_PRODUCTS = 1 << 24
_WORTH_A_THREAD = 512
_ITERATIONS = 6
# Cells that a thread looks at before it is told how far it is.
_TOGETHER = 8


@dataclass(frozen=True, eq=False)
class Cells:
    """Which cells each row is near to.

    Attributes:
        near: int32 (N, P), cells by their nearness; the first of them is the row's own.
        count: How many cells there are.
    """

    near: NDArray[np.int32]
    count: int

    @property
    def own(self) -> NDArray[np.int32]:
        """int32 (N,), the cell that each row lies in."""
        return self.near[:, 0]

    def visits(self, probes: int) -> Iterator[tuple[Positions, Positions]]:
        """For each cell: the rows that have it among their first ``probes`` cells, and those that lie in it."""
        cells = self.near[:, :probes]
        order = np.argsort(cells.ravel(), kind="stable")
        bounds = np.searchsorted(cells.ravel()[order], np.arange(self.count + 1))
        own = np.argsort(self.own, kind="stable")
        own_bounds = np.searchsorted(self.own[own], np.arange(self.count + 1))
        for cell in range(self.count):
            visitors = order[bounds[cell] : bounds[cell + 1]] // max(1, cells.shape[1])
            members = own[own_bounds[cell] : own_bounds[cell + 1]]
            if len(members):
                yield visitors, members

    def shared(
        self, probes: int, workers: Workers, look: Callable[[Positions, Positions], _Found]
    ) -> Iterator[tuple[float, list[_Found]]]:
        """What ``look`` gives for each of the `visits`, some at a time, and the share that is done before them.

        Args:
            probes: See `visits`.
            workers: Threads that look.
            look: Called in several threads at once.
        """
        visits = self.visits(probes)
        done = 0
        while batch := list(itertools.islice(visits, _TOGETHER * workers.threads)):

            def run(first: int, end: int, batch: list[tuple[Positions, Positions]] = batch) -> list[_Found]:
                return [look(visitors, members) for visitors, members in batch[first:end]]

            parts = workers.shared_out(len(batch), 1, run)
            yield done / self.count, [found for part in parts for found in part]
            done += len(batch)

    def meet(self, first: Positions, second: Positions, probes: int) -> NDArray[np.bool_]:
        """For each pair whether the second row lies in one of the first ``probes`` cells of the first."""
        met: NDArray[np.bool_] = (self.near[first, :probes] == self.own[second][:, None]).any(axis=1)
        return met


def make_cells(
    vectors: NDArray[np.float32], compared: str, probes: int, workers: Workers, told: Told
) -> Cells:
    """Parts rows into about sqrt(N) cells.

    Args:
        vectors: float32 (N, dim), of length 1 for ``cosine``.
        compared: ``cosine`` or ``euclidean``.
        probes: P; fewer where there are fewer cells.
        workers: Threads.
        told: How far it is.
    """
    rows = len(vectors)
    count = min(max(_FEWEST, min(_MOST, math.isqrt(rows))), rows)

    def still_wanted() -> bool:
        told("parting", 0.0)
        return False

    centroids = fit_centroids(
        vectors,
        count,
        metric=compared,
        iterations=_ITERATIONS,
        cancelled=still_wanted,
        threads=workers.threads,
    )
    probes = min(probes, count)
    near = np.empty((rows, probes), np.int32)
    halves = np.zeros(count, np.float32)
    if compared == "euclidean":
        halves = np.einsum("ij,ij->i", centroids, centroids) / 2

    def rank(first: int, end: int) -> None:
        scores = vectors[first:end] @ centroids.T - halves
        best = np.argpartition(-scores, probes - 1, axis=1)[:, :probes]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        near[first:end] = np.take_along_axis(best, order, 1)

    block = max(1, _BLOCK_PRODUCTS // count)
    for start in range(0, rows, block):
        told("parting", start / rows)
        size = min(block, rows - start)
        workers.shared_out(
            size,
            _WORTH_A_THREAD,
            lambda first, end, start=start: rank(start + first, start + end),  # type: ignore[misc]
        )
    told("parting", 1.0)
    return Cells(near, count)
