"""Inverted lists (IVF): vectors by their nearest centroid, whole, in 8 bits, or as product codes."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index.exact import half_squares_of, merged, nearest, ranked, rescored
from trunkline_service.index.kinds.faiss_search import Answers, check_fits, library, selector, shared_out
from trunkline_service.index.kinds.files import write_index, write_spread
from trunkline_service.index.kinds.lists import Lists, Scored
from trunkline_service.index.kinds.sizes import estimated_bytes
from trunkline_service.index.kinds.spread import Spread
from trunkline_service.index.kinds.unseen import Unseen
from trunkline_service.index.metric import in_single
from trunkline_service.index.options import IndexKind

_MOST_PRODUCTS = 1 << 21
# The rows of a list end at its borders, where those of a normal distribution go on: with its own deviation, real
# embeddings were looked for in half as many lists again, for the same recall.
_NARROWER = np.float32(0.8)
LEFT_PERMILLE = 100
"""Where nobody found out how much may be left."""
# Lists that a query looks into further, at least, and how many times as many each time.
_FEWEST, _FURTHER = 8, 4
# Rows in the lists that it looks into first, for each one that is wanted.
_ROOM = 2
# Lists are read row by row, and all rows by matrix products: of so many queries together that would look into lists
# with such a share of the rows, those are faster.
_TOGETHER, _MANY = 4, 0.1


class Ivf:
    """An IVF of FAISS over vectors; ``effort`` is ``nprobe``, the lists that a query looks into first.

    Then it looks into those that may hold better rows than it found, see `spread`: few or none for a query like
    the rows, many for one that is unlike them, or whose own region a filter takes away.

    What is compressed only proposes ``k_factor`` times k rows; the vectors themselves decide.

    Args:
        kind: ``ivf_flat``, ``ivf_sq8`` or ``ivf_pq``.
        index: FAISS's, with ids that are positions; it is not changed any more.
        vectors: float32 (N, dim), prepared; may be memory-mapped.
        metric: Of the vectors.
        parameters: ``nlist``; ``left_permille``, the better rows that a query of up to ``left_k`` neighbours may
            leave in lists that it does not look into, by what is expected and in thousandths of k, and
            ``left_permille_deep`` for more neighbours; ``k_factor``, and ``m`` of product codes.
        spread: Of the rows of its lists.

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
        spread: Spread,
    ) -> None:
        check_fits(index, vectors, metric)
        self.kind: IndexKind = kind
        self.parameters = parameters
        self._index = index
        # A memmap makes a memmap of every few rows that are taken of it.
        self._vectors = np.asarray(vectors)
        self._metric = metric
        self._lists = Lists(centroids_of(index), metric)
        self._spread = spread
        self._k_factor = parameters.get("k_factor", 1)
        self.nbytes = estimated_bytes(kind, len(vectors), vectors.shape[1], parameters)

    def __len__(self) -> int:
        return len(self._vectors)

    def with_k_factor(self, k_factor: int) -> Ivf:
        """The same index, that proposes so many times k rows."""
        return self._with({"k_factor": k_factor})

    def with_left(self, permille: int, up_to_k: int) -> Ivf:
        """The same index, whose queries look further until no more than so much of k is expected elsewhere.

        Args:
            permille: In thousandths of k.
            up_to_k: Searches of more neighbours keep what they have.
        """
        deep = self.parameters.get("left_permille_deep", self._left(up_to_k + 1))
        return self._with({"left_permille": permille, "left_k": up_to_k, "left_permille_deep": deep})

    def with_left_deep(self, permille: int) -> Ivf:
        """As `with_left`, for searches of more neighbours."""
        return self._with({"left_permille_deep": permille})

    def _left(self, k: int) -> int:
        permille = self.parameters.get("left_permille", LEFT_PERMILLE)
        deep = k > self.parameters.get("left_k", k)
        return self.parameters.get("left_permille_deep", permille) if deep else permille

    def _with(self, other: dict[str, int]) -> Ivf:
        parameters = {**self.parameters, **other}
        return Ivf(self.kind, self._index, self._vectors, self._metric, parameters, self._spread)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        effort: int,
        allowed: NDArray[np.bool_] | None = None,
        threads: int = 1,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `Approximate.search`."""
        search = partial(self._search, wanted=min(k * self._k_factor, len(self)), k=k)
        first = _First(max(1, min(effort, len(self._lists))), self._held_by_each(allowed), allowed)

        def in_blocks(part: NDArray[np.float32]) -> Answers:
            rows = max(1, _MOST_PRODUCTS // len(self._lists))
            found = [search(part[start : start + rows], first) for start in range(0, max(1, len(part)), rows)]
            return np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found])

        return shared_out(in_blocks, queries, threads)

    def write(self, folder: Path) -> None:
        """See `Approximate.write`."""
        write_index(self._index, folder)
        write_spread(self._spread, folder)

    def _search(self, queries: NDArray[np.float32], first: _First, wanted: int, k: int) -> Answers:
        """Looks into the first lists, and then into those that may hold better rows, of each query its own."""
        scored = self._lists.scored(queries)
        lists = self._first_lists(scored, first, wanted)
        selected = selector(first.allowed)
        scores, positions = self._found(queries, scored, lists, selected, wanted, k)
        everywhere = lists.shape[1] == len(self._lists) and bool((lists >= 0).all())
        if everywhere or (positions[:, -1] < 0).all():
            return scores, positions
        means, deviations = self._lists.expected(scored, self._spread)
        unseen = Unseen(
            means, deviations * _NARROWER, first.rows, lists, self._kth(scores), self._left(k) * k / 1000
        )
        most, done = lists.shape[1], np.zeros(len(queries), bool)
        while True:
            most = max(_FEWEST, _FURTHER * most)
            further, lists, rows = unseen.worth(np.where(done, np.float32(np.inf), self._kth(scores)), most)
            if not len(further):
                return scores, positions
            many = (rows > _MANY * len(self)) & (self.kind == "ivf_flat")
            if np.count_nonzero(many) >= _TOGETHER:
                at = further[many]
                scores[at], positions[at] = self._compared(queries[at], k, first.allowed)
                done[at] = True
                further, lists = further[~many], lists[~many]
                if not len(further):
                    continue
            part = Scored(scored.moved[further], scored.scores[further])
            more = self._found(queries[further], part, lists, selected, wanted, k)
            scores[further], positions[further] = merged([(scores[further], positions[further]), more], k)

    def _compared(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Answers:
        """Every row compared: of a few queries that would look into many lists, the faster way."""
        halves = self._half_squares if self._metric == "euclidean" else None
        scores, positions = nearest(queries, self._vectors, k, self._metric, allowed, halves)
        return in_single(scores), positions

    @cached_property
    def _half_squares(self) -> NDArray[np.float32]:
        return half_squares_of(self._vectors)

    def _first_lists(self, scored: Scored, first: _First, wanted: int) -> NDArray[np.int64]:
        # What so many lists hold on average of the rows that may be found: where a filter leaves those near a
        # query emptier, or they are small, the query looks into more.
        enough = max(_ROOM * wanted, -(-first.nprobe * int(first.rows.sum()) // len(self._lists)))
        if first.allowed is not None:
            return self._lists.nearest_holding(scored, first.rows, enough)
        lists = self._lists.nearest(scored, first.nprobe)
        small = np.flatnonzero(first.rows[lists].sum(axis=1) < _ROOM * wanted)
        if not len(small):
            return lists
        part = Scored(scored.moved[small], scored.scores[small])
        more = self._lists.nearest_holding(part, first.rows, enough)
        both = np.full((len(lists), max(lists.shape[1], more.shape[1])), -1, np.int64)
        both[:, : lists.shape[1]] = lists
        both[small] = -1
        both[small, : more.shape[1]] = more
        return both

    def _kth(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The k-th best scores as `Unseen` counts them: of distances, minus the squares.

        A query that lacks neighbours has none to go by; its caller looks deeper.
        """
        kth = scores[:, -1]
        kth = -(kth * kth) if self._metric == "euclidean" else kth
        return np.where(np.isneginf(kth), np.float32(np.inf), kth)

    def _held_by_each(self, allowed: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """How many of the allowed rows each list holds, int64 (nlist,)."""
        if allowed is None:
            return self._sizes
        # The fewer are counted, those or the others; where these are a few dead rows, that takes no time.
        most = 2 * int(np.count_nonzero(allowed)) > len(self)
        counted = np.flatnonzero(~allowed if most else allowed)
        rows = np.bincount(self._list_of[counted], minlength=len(self._lists))
        return self._sizes - rows if most else rows

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        """Rows of each list, int64 (nlist,)."""
        inverted = self._index.invlists
        return np.array([inverted.list_size(place) for place in range(len(self._lists))], np.int64)

    @cached_property
    def _list_of(self) -> NDArray[np.int32]:
        """The list of each position, int32 (N,)."""
        found = np.empty(len(self), np.int32)
        for place, members in enumerate(members_of(self._index)):
            found[members] = place
        return found

    def _found(
        self,
        queries: NDArray[np.float32],
        scored: Scored,
        lists: NDArray[np.int64],
        selected: Any,
        wanted: int,
        k: int,
    ) -> Answers:
        """The best k of what FAISS proposes of lists (Q, m), by exact scores."""
        faiss = library()

        lists, near = np.ascontiguousarray(lists), np.ascontiguousarray(self._lists.distances(scored, lists))
        positions = np.empty((len(queries), wanted), np.int64)
        distances = np.empty(positions.shape, np.float32)
        nprobe = lists.shape[1]
        if selected is None:
            parameters = faiss.SearchParametersIVF(nprobe=nprobe)
        else:
            parameters = faiss.SearchParametersIVF(nprobe=nprobe, sel=selected)
        # The wrapper of `search_preassigned` takes no parameters, and would read nprobe from the index.
        self._index.search_preassigned_c(
            len(queries),
            faiss.swig_ptr(np.ascontiguousarray(queries)),
            wanted,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(near),
            faiss.swig_ptr(distances),
            faiss.swig_ptr(positions),
            False,
            parameters,
        )
        return ranked(rescored(queries, self._vectors, positions, self._metric), positions, k)


class _First(NamedTuple):
    """Where every query looks first.

    Attributes:
        nprobe: Lists; with a filter, as many as hold what so many lists hold of its rows on average.
        rows: int64 (nlist,): the rows of each list that may be found.
        allowed: bool (N,): those rows; None for all.
    """

    nprobe: int
    rows: NDArray[np.int64]
    allowed: NDArray[np.bool_] | None


def members_of(index: Any) -> list[NDArray[np.int64]]:
    """The positions that each inverted list of an index of FAISS holds; copies."""
    faiss = library()

    inverted = index.invlists
    sizes = [int(inverted.list_size(place)) for place in range(int(index.nlist))]
    return [
        faiss.rev_swig_ptr(inverted.get_ids(place), size).copy() if size else np.empty(0, np.int64)
        for place, size in enumerate(sizes)
    ]


def centroids_of(index: Any) -> NDArray[np.float32]:
    """Of an index of FAISS, float32 (nlist, dim); a copy."""
    faiss = library()

    quantizer = faiss.downcast_index(index.quantizer)
    centroids: NDArray[np.float32] = faiss.rev_swig_ptr(quantizer.get_xb(), quantizer.ntotal * quantizer.d)
    return centroids.reshape(quantizer.ntotal, quantizer.d).copy()
