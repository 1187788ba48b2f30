"""The recall of a view as it serves: the answers to rows of the collection, compared with brute force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled, InvalidArgument, NotEnoughData
from trunkline_service.index.card import Recall
from trunkline_service.index.choosing.measuring import lower_end
from trunkline_service.index.options import MAX_K
from trunkline_service.index.view import View
from trunkline_service.index.workers import Workers

MAX_QUERIES = 10_000
_BLOCK_ROWS = 8192
# In single precision, scores of equal distance differ by as much.
_ROUNDING = 1e-6
_ASKED_AT_ONCE = 64


def measure(
    view: View,
    k: int,
    queries: int,
    *,
    exact_rows: int,
    workers: Workers,
    seed: int = 0,
    cancelled: Callable[[], bool] = lambda: False,
) -> Recall:
    """Recall@k over rows drawn at random; a row is no neighbour of itself.

    Rows that the index holds out are drawn first: a graph finds a row that is in it more easily. The truth
    is brute force in double precision. A hit counts where it is as near as the true k-th.

    Args:
        view: Where.
        k: Neighbours.
        queries: The most rows to ask for.
        exact_rows: See `search_part`.
        workers: Threads.
        seed: Of the draw.
        cancelled: Asked before every block of rows, and of queries.

    Raises:
        Cancelled: ``cancelled`` said so.
        InvalidArgument: ``k`` or ``queries`` that can't be.
        NotEnoughData: Fewer than two rows.
    """
    for name, value, most in (("k", k, MAX_K), ("queries", queries, MAX_QUERIES)):
        if not 1 <= value <= most:
            raise InvalidArgument(f"{name} is {value}; it can be 1 to {most}")
    if len(view) < 2:
        raise NotEnoughData(
            f"the collection has {len(view)} rows with a vector; recall is measured of two or more"
        )
    slots = _drawn(view, queries, np.random.default_rng(seed))
    asked = view.vectors(slots)
    k = min(k, len(view) - 1)
    served = _with_effort_of(view, k)
    check = _checking(cancelled)
    answers: list[NDArray[np.int64]] = []
    for first in range(0, len(asked), _ASKED_AT_ONCE):
        check()
        part = asked[first : first + _ASKED_AT_ONCE]
        answers.extend(served.search(part, k + 1, None, exact_rows=exact_rows, workers=workers).slots)
    nearest = _kth_best(view, asked, slots, k, check)
    rates = np.empty(len(slots))
    for row, slot in enumerate(slots.tolist()):
        if row % _ASKED_AT_ONCE == 0:
            check()
        found = answers[row]
        found = found[(found >= 0) & (found != slot)][:k]
        scores = _scores(view.vectors(found), asked[row : row + 1], view.spec.metric)[:, 0]
        rates[row] = np.count_nonzero(scores >= nearest[row] - _ROUNDING * max(1.0, abs(nearest[row]))) / k
    return Recall(k, float(rates.mean()), lower_end(rates, k), len(rates), view.version, len(view))


def _checking(cancelled: Callable[[], bool]) -> Callable[[], None]:
    def check() -> None:
        if cancelled():
            raise Cancelled("measuring the recall was cancelled; nothing was changed")

    return check


def _with_effort_of(view: View, k: int) -> View:
    """The view, whose structure looks for k + 1 neighbours as it does for k: one is the row that asks."""
    indexed = view.indexed
    level = None if indexed is None else indexed.segment.level_of(k)
    if indexed is None or level is None:
        return view
    levels = (replace(level, recall=replace(level.recall, k=k + 1)),)
    return replace(
        view, parts=(replace(indexed, segment=replace(indexed.segment, levels=levels)), *view.parts[1:])
    )


def _drawn(view: View, queries: int, rng: np.random.Generator) -> NDArray[np.int64]:
    indexed = 0 if view.indexed is None else len(view.indexed.segment)
    alive = np.flatnonzero(np.concatenate([part.alive for part in view.parts]))
    beside, inside = alive[alive >= indexed], alive[alive < indexed]
    first = rng.permutation(beside)[:queries]
    return np.concatenate([first, rng.permutation(inside)[: queries - len(first)]]).astype(np.int64)


def _kth_best(
    view: View, asked: NDArray[np.float32], slots: NDArray[np.int64], k: int, check: Callable[[], None]
) -> NDArray[np.float64]:
    """The score of each query's true k-th neighbour."""
    best = np.full((len(asked), k), -np.inf)
    start = 0
    for part in view.parts:
        vectors = part.segment.vectors
        for first in range(0, len(vectors), _BLOCK_ROWS):
            check()
            block = vectors[first : first + _BLOCK_ROWS]
            scores = _scores(block, asked, view.spec.metric).T
            scores[:, ~part.alive[first : first + len(block)]] = -np.inf
            own = slots - start - first
            here = np.flatnonzero((own >= 0) & (own < len(block)))
            scores[here, own[here]] = -np.inf
            both = np.concatenate([best, scores], axis=1)
            best = np.partition(both, both.shape[1] - k, axis=1)[:, -k:]
        start += len(vectors)
    worst: NDArray[np.float64] = best.min(axis=1)
    return worst


def _scores(vectors: NDArray[np.float32], asked: NDArray[np.float32], metric: str) -> NDArray[np.float64]:
    """(n, Q) in double precision."""
    rows, queries = vectors.astype(np.float64), asked.astype(np.float64)
    products: NDArray[np.float64] = rows @ queries.T
    if metric != "euclidean":
        return products
    squares = (rows**2).sum(axis=1)[:, None] + (queries**2).sum(axis=1) - 2 * products
    distances: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0))
    return -distances
