"""The search of one part: exact, or approximate with the effort that its filter and its dead rows ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index import exact
from trunkline_service.index.metric import MOST_VALUE, in_single
from trunkline_service.index.segment import Part, Segment
from trunkline_service.index.workers import Workers

_STEP = 4
# Where a filter's rows lie on one side of a plane, a structure of a million rows that finds 0.997 of the
# nearest found 0.93 to 0.96 of them with its effort divided by their share, and 0.99 with four times that.
_APART = 4
# A graph of which half is filtered away found 0.85 to 0.97, in several times the time of comparing all.
_OF_A_GRAPH = 0.5
# Lists of which this share may be found are searched as if it were all of them first.
_OF_LISTS = 0.9
# Of what a deep search finds the last are found less often than the first.
_DEEPER = 2


def search_part(
    part: Part,
    queries: NDArray[np.float32],
    k: int,
    metric: str,
    allowed: NDArray[np.bool_] | None,
    *,
    exact_rows: int | None,
    workers: Workers,
) -> tuple[exact.Scores, exact.Positions, bool]:
    """The k best rows of a part.

    A filter's rows may lie anywhere, also all of them far from the query, and dead rows may be all that lie
    near it: a structure that was tuned without them would look in vain. So where there are few enough to
    compare, all of them are. Where most may be found, more neighbours than k are asked for as if there were
    no others, with the effort that was measured for so many: where k of them may be found, these are the
    answer. A query that lacks some looks deeper: of a graph, until all are compared; of lists, into more of
    those that hold rows which may be found.

    Args:
        part: Where.
        queries: float32 (Q, dim), prepared.
        k: At least 1.
        metric: Of the vectors.
        allowed: bool (N,): rows that a filter lets through; None for all.
        exact_rows: Where a filter or death leaves this many rows at most, all are compared; None: always.
        workers: Threads.

    Returns:
        Scores (Q, k) and positions (Q, k), filled up with ``-inf`` and ``-1``; whether all were compared.
    """
    segment, mask = part.segment, part.allowed(allowed)
    structure = segment.approximate
    count = len(segment) if mask is None else int(np.count_nonzero(mask))
    mask = None if count == len(segment) else mask
    level = segment.level_of(k)
    probe = _Probe(segment, queries, k, metric, mask, workers)
    everything = np.arange(len(queries))
    # A structure was built of values within these bounds, see `choosing.choose`.
    held = metric == "cosine" or float(np.abs(queries).max(initial=0)) <= MOST_VALUE
    if structure is None or level is None or exact_rows is None or count <= k or not held:
        return *probe.exactly(everything), True
    share = count / len(segment)
    graph = structure.kind == "hnsw"
    if mask is not None and (count <= exact_rows or (graph and share < _OF_A_GRAPH)):
        return *probe.exactly(everything), True
    if mask is None:
        return *probe.with_effort(everything, level.effort), False
    effort = math.ceil(_APART * level.effort / share)
    if graph:
        return *probe.deeper(share), False
    if share < _OF_LISTS:
        return *probe.with_effort(everything, effort), False
    scores, positions = probe.as_if_all(everything, _depth(k, share), level.effort)
    lacking = np.flatnonzero(positions[:, -1] < 0)
    scores[lacking], positions[lacking] = probe.with_effort(lacking, effort)
    return scores, positions, False


@dataclass(frozen=True, eq=False)
class _Probe:
    """A search of a segment; see `search_part`.

    Attributes:
        segment: Where.
        queries: float32 (Q, dim), prepared.
        k: At least 1.
        metric: Of the vectors.
        mask: bool (N,): rows that may be found; None for all.
        workers: Threads.
    """

    segment: Segment
    queries: NDArray[np.float32]
    k: int
    metric: str
    mask: NDArray[np.bool_] | None
    workers: Workers

    def exactly(self, which: NDArray[np.int64]) -> tuple[exact.Scores, exact.Positions]:
        """Of some queries, with all rows compared."""
        halves = self.segment.half_squares if self.metric == "euclidean" else None
        return exact.nearest(
            self.queries[which], self.segment.vectors, self.k, self.metric, self.mask, halves, self.workers
        )

    def with_effort(self, which: NDArray[np.int64], effort: int) -> tuple[exact.Scores, exact.Positions]:
        """Of some queries among the rows that may be found, with more effort where one finds too few."""
        scores, positions = self._nothing(which)
        effort, lacking = max(1, min(len(self.segment), effort)), np.arange(len(which))
        while len(lacking):
            found, positions[lacking] = self._searched(which[lacking], effort)
            scores[lacking] = in_single(found)
            lacking = lacking[positions[lacking, -1] < 0]
            effort = min(len(self.segment), effort * _STEP)
        return scores, positions

    def deeper(self, share: float) -> tuple[exact.Scores, exact.Positions]:
        """Of all queries as if every row might be found, deeper where too few may, and exactly in the end.

        A graph that is walked with a selector ends where the rows that may not be found begin to be all that
        is near: of a query in their midst it found 3 of 100 neighbours.
        """
        which = np.arange(len(self.queries))
        scores, positions = self._nothing(which)
        depth = _depth(self.k, share)
        effort = _effort_for(self.segment, self.k, depth)
        while len(which) and effort is not None:
            found, positions[which] = self.as_if_all(which, depth, effort)
            scores[which] = in_single(found)
            which = which[positions[which, -1] < 0]
            depth *= _STEP
            effort = _effort_for(self.segment, self.k, _DEEPER * depth)
        found, positions[which] = self.exactly(which)
        scores[which] = in_single(found)
        return scores, positions

    def as_if_all(
        self, which: NDArray[np.int64], depth: int, effort: int
    ) -> tuple[exact.Scores, exact.Positions]:
        """Those of the ``depth`` nearest rows that may be found, the k best of them."""
        assert self.segment.approximate is not None
        assert self.mask is not None
        found = self.segment.approximate.search(
            self.queries[which], depth, effort, None, self.workers.threads
        )
        scores, positions = found
        out = (positions < 0) | ~self.mask[positions]
        scores[out], positions[out] = -np.inf, -1
        return exact.ranked(scores, positions, self.k)

    def _searched(self, which: NDArray[np.int64], effort: int) -> tuple[exact.Scores, exact.Positions]:
        if effort >= len(self.segment):
            return self.exactly(which)
        assert self.segment.approximate is not None
        return self.segment.approximate.search(
            self.queries[which], self.k, effort, self.mask, self.workers.threads
        )

    def _nothing(self, which: NDArray[np.int64]) -> tuple[exact.Scores, exact.Positions]:
        shape = len(which), self.k
        return np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)


def _depth(k: int, share: float) -> int:
    """Neighbours to ask for so that k of them may be found where those that may not lie in no order."""
    return math.ceil((k + 2 * math.sqrt(k * (1 - share))) / share) + 1


def _effort_for(segment: Segment, k: int, depth: int) -> int | None:
    """The effort that finds so many neighbours, not less than for k; None where none was measured.

    Between two numbers of neighbours that were measured it lies in proportion.
    """
    least = segment.level_of(k)
    most = segment.level_of(depth)
    if least is None or most is None:
        return None
    below = [level for level in segment.levels if level.recall.k < min(depth, most.recall.k)]
    if not below:
        return max(least.effort, most.effort)
    first = below[-1]
    way = min(1.0, (depth - first.recall.k) / (most.recall.k - first.recall.k))
    return max(least.effort, math.ceil(first.effort + way * (most.effort - first.effort)))
