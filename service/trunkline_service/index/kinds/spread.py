"""How the rows of each inverted list lie about its centroid, and what that leaves to be found.

A number of lists that was tuned with some queries says little of others: of a query between the clusters, or
one whose own region a filter takes away, the nearest rows are scattered over many lists. With the two lists that
found 0.999 of the neighbours of rows, queries at random found 0.63. So each query's own lists are judged: the
scores of a list's rows are taken as normally distributed about that of their mean, with the variance that they have
along the query, and with the score of its k-th neighbour so far this gives how many better ones each list may
hold. A query is done once all the lists that it did not look into may hold next to nothing of its k.

Rows of one list often lie in two clusters, and a single variance would then be far too large in all other
directions; so that of the main direction is kept apart where it stands out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import Cancelled

Floats = NDArray[np.float32]

# Rows of a list that are looked at, and lists at once.
_SAMPLE, _BLOCK = 64, 128
_ROUNDS = 8
# A direction stands out that makes the variance this many times as large.
_STANDS_OUT = 2.0
NUMBERS = 5
"""Of each list, beside its main direction."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Of the lists' rows about their centroids.

    Attributes:
        shrink: float32 (nlist,): the mean of the rows is this times the centroid, but for what the variances
            hold; 1 for ``euclidean``.
        square: float32 (nlist,): the mean squared distance from the centroid.
        square_variance: float32 (nlist,): of the squared distances.
        main: float32 (nlist,): the variance along the main direction; 0 where none stands out.
        rest: float32 (nlist,): along another direction, an average over the directions weighted by their variance.
        turned: float32 (dim, nlist): the main directions, of length 1, as columns; zeros where none stands out.
    """

    shrink: Floats
    square: Floats
    square_variance: Floats
    main: Floats
    rest: Floats
    turned: Floats

    @cached_property
    def directed(self) -> NDArray[np.int64]:
        """The lists with a main direction, int64 (m,)."""
        return np.flatnonzero(self.main > 0)

    @cached_property
    def directions(self) -> Floats:
        """Theirs, float32 (dim, m)."""
        return np.ascontiguousarray(self.turned[:, self.directed])

    def packed(self) -> Floats:
        """All of it in one matrix, float32 (nlist, `NUMBERS` + dim)."""
        numbers = (self.shrink, self.square, self.square_variance, self.main, self.rest)
        return np.concatenate([np.stack(numbers, axis=1), self.turned.T], axis=1)

    @classmethod
    def unpacked(cls, packed: Floats) -> Spread:
        """What `packed` gave."""
        shrink, square, square_variance, main, rest = np.ascontiguousarray(packed[:, :NUMBERS].T)
        return cls(shrink, square, square_variance, main, rest, np.ascontiguousarray(packed[:, NUMBERS:].T))


def spread_of(
    vectors: Floats,
    members: Sequence[NDArray[np.int64]],
    centroids: Floats,
    metric: str,
    cancelled: Callable[[], bool] = lambda: False,
) -> Spread:
    """The spread of lists, of up to 64 rows of each.

    Args:
        vectors: float32 (N, dim), prepared; may be memory-mapped.
        members: For each list the positions of its rows, int64.
        centroids: float32 (nlist, dim).
        metric: Of the vectors.
        cancelled: Asked now and then; true ends it.

    Raises:
        Cancelled: It was cancelled.
    """
    blocks = []
    for start in range(0, len(members), _BLOCK):
        if cancelled():
            raise Cancelled("the build of the index was cancelled; nothing was kept")
        chosen = [_some(rows) for rows in members[start : start + _BLOCK]]
        blocks.append(_of_block(vectors, chosen, centroids[start : start + _BLOCK], metric))
    found = Spread.unpacked(np.concatenate(blocks))
    # Of a single row nothing can be told: it is taken to lie as the others do.
    few = np.array([len(rows) < 2 for rows in members])
    if few.any() and not few.all():
        for values in (found.square, found.square_variance, found.main, found.rest):
            values[few] = np.median(values[~few])
    return found


def _some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to 64 of a list's rows, evenly: they stand in the order they were written, and what came last may be another
    kind of picture."""
    count = min(len(rows), _SAMPLE)
    return rows[np.arange(count) * len(rows) // max(1, count)]


def _of_block(vectors: Floats, chosen: Sequence[NDArray[np.int64]], centroids: Floats, metric: str) -> Floats:
    """See `Spread.packed`; one row for each list."""
    most = max((len(rows) for rows in chosen), default=0) or 1
    there = np.array([np.arange(most) < len(rows) for rows in chosen])
    at = np.zeros(there.shape, np.int64)
    at[there] = np.concatenate(chosen)
    rows = vectors[at].astype(np.float64)
    centres = centroids.astype(np.float64)
    count = np.maximum(there.sum(axis=1), 1)
    shrink = np.ones(len(chosen))
    if metric != "euclidean":
        along = np.einsum("lnd,ld,ln->l", rows, centres, there) / count
        length = np.einsum("ld,ld->l", centres, centres)
        shrink = np.divide(along, length, out=shrink, where=length > 0)
    left = (rows - (shrink[:, None] * centres)[:, None, :]) * there[:, :, None]
    squares = np.einsum("lnd,lnd->ln", left, left)
    mean_square = squares.sum(axis=1) / count
    square_variance = (there * (squares - mean_square[:, None]) ** 2).sum(axis=1) / count
    direction = _main_direction(left, squares)
    steps = np.einsum("lnd,ld->ln", left, direction)
    whole = _along_any(left, count)
    left -= steps[:, :, None] * direction[:, None, :]
    rest, main = _along_any(left, count), (steps**2).sum(axis=1) / count
    even = whole < _STANDS_OUT * rest
    rest[even], main[even], direction[even] = whole[even], 0, 0
    numbers = (shrink, mean_square, square_variance, main, rest)
    with np.errstate(over="ignore"):
        return np.concatenate([np.stack(numbers, axis=1), direction], axis=1).astype(np.float32)


def _main_direction(left: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The direction of the largest variance of each list, (L, dim), by power iteration."""
    direction = left[np.arange(len(left)), squares.argmax(axis=1)]
    for _ in range(_ROUNDS):
        direction = _unit(direction)
        direction = np.einsum("lnd,ln->ld", left, np.einsum("lnd,ld->ln", left, direction))
    return _unit(direction)


def _unit(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    found: NDArray[np.float64] = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0)
    return found


def _along_any(left: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of the variances of each list's directions, weighted by themselves: tr(S^2) / tr(S).

    The squared products of two different rows average to tr(S^2); those of a row with itself would add the
    chance of a small sample.
    """
    products = left @ left.transpose(0, 2, 1)
    own = np.einsum("lnn->ln", products)
    pairs = np.maximum(count * (count - 1), 1)
    squared = ((products**2).sum(axis=(1, 2)) - (own**2).sum(axis=1)) / pairs
    trace = own.sum(axis=1) / count
    mean = np.divide(squared, trace, out=np.zeros_like(trace), where=trace > 0)
    # Variance that is spread evenly over all directions is the least there is.
    found: NDArray[np.float64] = np.maximum(mean, trace / left.shape[2])
    return found
