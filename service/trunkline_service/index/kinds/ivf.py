"""Inverted lists (IVF): vectors by their nearest centroid, whole, in 8 bits, or as product codes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index.kinds.faiss_search import answered, check_fits, library, selector
from trunkline_service.index.kinds.files import write_index
from trunkline_service.index.kinds.lists import Lists
from trunkline_service.index.kinds.sizes import estimated_bytes
from trunkline_service.index.options import IndexKind

_MOST_PRODUCTS = 1 << 21


class Ivf:
    """An IVF of FAISS over vectors; ``effort`` is ``nprobe``, the lists that a query looks into.

    With a filter, a query looks into as many lists as hold what ``nprobe`` lists hold of the filter's rows on
    average. A filter's rows often lie together, away from the query, and its nearest lists hold none.

    What is compressed only proposes ``k_factor`` times k rows; the vectors themselves decide.

    Args:
        kind: ``ivf_flat``, ``ivf_sq8`` or ``ivf_pq``.
        index: FAISS's, with ids that are positions; it is not changed any more.
        vectors: float32 (N, dim), prepared; may be memory-mapped.
        metric: Of the vectors.
        parameters: ``nlist``, ``k_factor``, and ``m`` of product codes.

    Raises:
        IndexDamaged: The index is not of these vectors or parameters.
    """

    def __init__(
        self,
        kind: IndexKind,
        index: Any,
        vectors: NDArray[np.float32],
        metric: str,
        parameters: dict[str, int],
    ) -> None:
        check_fits(index, vectors, metric)
        self.kind: IndexKind = kind
        self.parameters = parameters
        self._index = index
        # A memmap makes a memmap of every few rows that are taken of it.
        self._vectors = np.asarray(vectors)
        self._metric = metric
        self._lists = Lists(_centroids(index), metric)
        self._k_factor = parameters.get("k_factor", 1)
        self.nbytes = estimated_bytes(kind, len(vectors), vectors.shape[1], parameters)

    def __len__(self) -> int:
        return len(self._vectors)

    def with_k_factor(self, k_factor: int) -> Ivf:
        """The same index, that proposes so many times k rows."""
        return Ivf(
            self.kind, self._index, self._vectors, self._metric, {**self.parameters, "k_factor": k_factor}
        )

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        effort: int,
        allowed: NDArray[np.bool_] | None = None,
        threads: int = 1,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `Approximate.search`."""
        wanted = min(k * self._k_factor, len(self))
        lists_of = self._chooser(wanted, effort, allowed)
        selected = selector(allowed)

        def propose(part: NDArray[np.float32]) -> NDArray[np.int64]:
            positions = np.empty((len(part), wanted), np.int64)
            rows = max(1, _MOST_PRODUCTS // len(self._lists))
            for start in range(0, len(part), rows):
                block = slice(start, start + rows)
                self._propose(part[block], *lists_of(part[block]), selected, positions[block])
            return positions

        return answered(propose, queries, self._vectors, k, self._metric, threads)

    def write(self, folder: Path) -> None:
        """See `Approximate.write`."""
        write_index(self._index, folder)

    def _chooser(
        self, wanted: int, effort: int, allowed: NDArray[np.bool_] | None
    ) -> Callable[[NDArray[np.float32]], tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Says which lists queries look into."""
        nprobe = max(1, min(effort, len(self._lists)))
        if allowed is None:
            return partial(self._lists.nearest, count=nprobe)
        count = int(np.count_nonzero(allowed))
        rows = self._held_by_each(allowed, count)
        # What so many lists hold of the filter's rows on average: where it leaves those near a query emptier,
        # the query looks into more.
        enough = max(wanted, -(-nprobe * count // len(self._lists)))
        return partial(self._lists.nearest_holding, rows=rows, enough=enough)

    def _held_by_each(self, allowed: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
        """How many of the ``count`` allowed rows each list holds, int64 (nlist,)."""
        # The fewer are counted, those or the others; where these are a few dead rows, that takes no time.
        most = 2 * count > len(self)
        counted = np.flatnonzero(~allowed if most else allowed)
        rows = np.bincount(self._list_of[counted], minlength=len(self._lists))
        return self._sizes - rows if most else rows

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        """Rows of each list, int64 (nlist,)."""
        return np.bincount(self._list_of, minlength=len(self._lists))

    @cached_property
    def _list_of(self) -> NDArray[np.int32]:
        """The list of each position, int32 (N,)."""
        faiss = library()

        inverted = self._index.invlists
        found = np.empty(len(self), np.int32)
        for place in range(len(self._lists)):
            if size := inverted.list_size(place):
                found[faiss.rev_swig_ptr(inverted.get_ids(place), size)] = place
        return found

    def _propose(
        self,
        queries: NDArray[np.float32],
        lists: NDArray[np.int64],
        near: NDArray[np.float32],
        selected: Any,
        positions: NDArray[np.int64],
    ) -> None:
        """Fills ``positions`` (Q, n) with FAISS's best of the lists (Q, m); -1 where there are fewer."""
        faiss = library()

        nprobe = lists.shape[1]
        distances = np.empty(positions.shape, np.float32)
        if selected is None:
            parameters = faiss.SearchParametersIVF(nprobe=nprobe)
        else:
            parameters = faiss.SearchParametersIVF(nprobe=nprobe, sel=selected)
        # The wrapper of `search_preassigned` takes no parameters, and would read nprobe from the index.
        self._index.search_preassigned_c(
            len(queries),
            faiss.swig_ptr(queries),
            positions.shape[1],
            faiss.swig_ptr(lists),
            faiss.swig_ptr(near),
            faiss.swig_ptr(distances),
            faiss.swig_ptr(positions),
            False,
            parameters,
        )


def _centroids(index: Any) -> NDArray[np.float32]:
    faiss = library()

    quantizer = faiss.downcast_index(index.quantizer)
    centroids: NDArray[np.float32] = faiss.rev_swig_ptr(quantizer.get_xb(), quantizer.ntotal * quantizer.d)
    return centroids.reshape(quantizer.ntotal, quantizer.d).copy()
