"""The search of one part: exact, or approximate with the effort that its filter asks for."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index import exact
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.segment import Part
from trunkline_service.index.workers import Workers

_STEP = 4
# Where a filter's rows lie on one side of a plane, a structure of a million rows that finds 0.997 of the
# nearest found 0.93 to 0.96 of them with its effort divided by their share, and 0.99 with four times that.
_APART = 4
# A graph of which half is filtered away found 0.85 to 0.97, in several times the time of comparing all.
_OF_A_GRAPH = 0.5


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

    A filter's rows may lie anywhere, also all of them far from the query, and a structure that was tuned
    without it would look for them in vain. So where they are few enough to compare, all of them are.
    Where they are more, the effort grows as their share falls, and again where a query found too few.

    Args:
        part: Where.
        queries: float32 (Q, dim), prepared.
        k: At least 1.
        metric: Of the vectors.
        allowed: bool (N,): rows that a filter lets through; None for all.
        exact_rows: Where a filter leaves this many rows at most, all are compared; None: always.
        workers: Threads.

    Returns:
        Scores (Q, k) and positions (Q, k), filled up with ``-inf`` and ``-1``; whether all were compared.
    """
    segment, mask = part.segment, part.allowed(allowed)
    structure = segment.approximate
    count = len(segment) if mask is None else int(np.count_nonzero(mask))
    level = segment.level_of(k)
    if structure is None or level is None or exact_rows is None or count <= k:
        return *_exactly(part, queries, k, metric, mask, workers), True
    share = count / len(segment)
    if allowed is not None and (count <= exact_rows or (structure.kind == "hnsw" and share < _OF_A_GRAPH)):
        return *_exactly(part, queries, k, metric, mask, workers), True
    apart = 1 if allowed is None else _APART
    effort = max(1, min(len(segment), math.ceil(apart * level.effort / share)))
    scores, positions = structure.search(queries, k, effort, mask, workers.threads)
    lacking = np.flatnonzero(positions[:, -1] < 0)
    while len(lacking):
        effort = min(len(segment), effort * _STEP)
        found = _again(structure, part, queries[lacking], k, metric, mask, effort, workers)
        scores[lacking], positions[lacking] = found
        lacking = lacking[found[1][:, -1] < 0]
    return scores, positions, False


def _again(
    structure: Approximate,
    part: Part,
    queries: NDArray[np.float32],
    k: int,
    metric: str,
    mask: NDArray[np.bool_] | None,
    effort: int,
    workers: Workers,
) -> tuple[exact.Scores, exact.Positions]:
    if effort >= len(part.segment):
        return _exactly(part, queries, k, metric, mask, workers)
    return structure.search(queries, k, effort, mask, workers.threads)


def _exactly(
    part: Part,
    queries: NDArray[np.float32],
    k: int,
    metric: str,
    mask: NDArray[np.bool_] | None,
    workers: Workers,
) -> tuple[exact.Scores, exact.Positions]:
    segment = part.segment
    halves = segment.half_squares if metric == "euclidean" else None
    return exact.nearest(queries, segment.vectors, k, metric, mask, halves, workers)
