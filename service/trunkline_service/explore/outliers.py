"""Outliers: the rows that are furthest from their neighbours, and why, in words.

How far a row's k-th neighbour is takes a comparison with all rows. In large collections its k-th neighbour
among the rows of near cells comes first, which can't be nearer than the true one: rows are looked at whole
in the order of that bound, until no bound is left that would make the list. So the answer is exact, and most
rows are never compared with all others.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.rows import Label
from trunkline_service.errors import InvalidArgument
from trunkline_service.explore.cells import make_cells
from trunkline_service.explore.live import Live, Seen, Told, distance_words, label_words
from trunkline_service.index.exact import half_squares_of, nearest
from trunkline_service.index.workers import Workers

MOST_OUTLIERS = 1000
"""Outliers that can be asked for at once."""

MOST_NEIGHBOURS = 100
"""The neighbours that can be looked at."""

_WHOLE_ROWS = 20_000
_QUERIES = 512
_PROBES = 3
_SAMPLE = 512
_VISITORS = 2048
# Of the neighbours, how many must agree on another label for that to be worth a word.
_AGREE = 0.7
_LEAP = 1.5
# Float32 products, relative to what is multiplied.
_WRONG = 1e-5

Distances = NDArray[np.float32]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Outlier:
    """A row that is far from all others.

    Attributes:
        row: The row.
        distance: To its k-th neighbour: one minus the cosine, or the Euclidean distance.
        times: How many times the usual distance that is; infinite where that is 0.
        reason: In words.
        nearest: The nearest other row.
        nearest_distance: How far that is.
    """

    row: Seen
    distance: float
    times: float
    reason: str
    nearest: Seen
    nearest_distance: float


@dataclass(frozen=True)
class Outliers:
    """The rows of a collection that are least like the others.

    Attributes:
        collection: Its name.
        version: That was read.
        space_id: Of its vectors.
        metric: ``cosine`` or ``euclidean``.
        rows: That were compared.
        neighbours: Which neighbour's distance counts.
        usual: The median of that distance: over all rows, or a sample of them.
        outliers: The furthest first.
    """

    collection: str
    version: int
    space_id: str
    metric: str
    rows: int
    neighbours: int
    usual: float
    outliers: tuple[Outlier, ...]


def find_outliers(
    live: Live,
    count: int = 50,
    neighbours: int = 10,
    *,
    whole_rows: int = _WHOLE_ROWS,
    workers: Workers | None = None,
    told: Told = lambda _stage, _share: None,
) -> Outliers:
    """The rows whose k-th neighbour is furthest.

    Args:
        live: The rows.
        count: Outliers to list, 1 to `MOST_OUTLIERS`; fewer where there are fewer rows.
        neighbours: k, 1 to `MOST_NEIGHBOURS`; one less than there are rows, where that is less.
        whole_rows: Up to so many rows, each is compared with all.
        workers: Threads; None for the caller's alone.
        told: How far it is.

    Raises:
        InvalidArgument: Numbers that can't be.
        NotEnoughData: Fewer than two rows.
    """
    if not 1 <= count <= MOST_OUTLIERS:
        raise InvalidArgument(f"count is {count}; ask for 1 to {MOST_OUTLIERS:,} outliers")
    if not 1 <= neighbours <= MOST_NEIGHBOURS:
        raise InvalidArgument(f"neighbours is {neighbours}; it can be 1 to {MOST_NEIGHBOURS}")
    rows = len(live)
    if rows < 2:
        raise live.too_few("an outlier takes at least 2 to compare")
    k = min(neighbours, rows - 1)
    workers = workers or Workers(1)
    search = _Exact(live, k, workers)
    if rows <= whole_rows:
        far, usual = _of_all(search, count, told)
    else:
        far, usual = _of_many(live, search, count, k, workers, told)
    distances, positions = search.neighbours(far)
    return Outliers(
        live.name,
        live.version,
        live.spec.space_id,
        live.compared,
        rows,
        k,
        float(live.measured(np.asarray(usual))),
        _described(live, far, distances, positions, usual),
    )


class _Exact:
    """Distances to the k nearest other rows."""

    def __init__(self, live: Live, k: int, workers: Workers) -> None:
        self._workers = workers
        self._vectors = live.vectors
        self._metric = live.compared
        self._halves = half_squares_of(live.vectors) if live.compared == "euclidean" else None
        self._k = k

    def __len__(self) -> int:
        return len(self._vectors)

    def neighbours(self, rows: Positions) -> tuple[Distances, Positions]:
        """Distances (n, k), rising, and positions (n, k)."""
        scores, found = nearest(
            self._vectors[rows],
            self._vectors,
            self._k + 1,
            self._metric,
            half_squares=self._halves,
            workers=self._workers,
        )
        # Each finds itself, unless so many equal ones that another of these may go instead.
        own = found == rows[:, None]
        own[~own.any(axis=1), -1] = True
        shape = (len(rows), self._k)
        return to_distances(scores[~own].reshape(shape), self._metric), found[~own].reshape(shape)


def to_distances(scores: NDArray[np.float32], compared: str) -> Distances:
    """Scores as distances: one minus a cosine, or what ``euclidean`` scores are minus of."""
    distances: Distances = -scores if compared == "euclidean" else np.maximum(1 - scores, 0)
    return distances


def _of_all(search: _Exact, count: int, told: Told) -> tuple[Positions, float]:
    rows = len(search)
    last = np.empty(rows, np.float32)
    for start in range(0, rows, _QUERIES):
        told("comparing", start / rows)
        part = np.arange(start, min(start + _QUERIES, rows))
        last[part] = search.neighbours(part)[0][:, -1]
    told("comparing", 1.0)
    return np.argsort(-last, kind="stable")[:count], float(np.median(last))


def _of_many(
    live: Live, search: _Exact, count: int, k: int, workers: Workers, told: Told
) -> tuple[Positions, float]:
    rows = len(live)
    sample = np.sort(np.random.default_rng(0).choice(rows, min(_SAMPLE, rows), replace=False))
    told("sampling", 0.0)
    usual = float(np.median(search.neighbours(sample)[0][:, -1]))
    bounds = _bounds(live, k, workers, told)
    order = np.argsort(-bounds, kind="stable")
    found: Distances = np.empty(0, np.float32)
    looked = 0
    while looked < rows:
        # What is left can't be further than its bound, and so not further than those that are found.
        if looked >= count and np.partition(found, -count)[-count] >= bounds[order[looked]]:
            break
        told("comparing", looked / rows)
        part = order[looked : looked + _QUERIES]
        found = np.append(found, search.neighbours(part)[0][:, -1])
        looked += len(part)
    told("comparing", 1.0)
    return order[np.lexsort((order[:looked], -found))[:count]], usual


def _bounds(live: Live, k: int, workers: Workers, told: Told) -> Distances:
    """float32 (N,): how far the k-th neighbour is at most, by the rows of near cells; infinite for too few."""
    cells = make_cells(live.vectors, live.compared, _PROBES, workers, told)
    halves = half_squares_of(live.vectors) if live.compared == "euclidean" else None
    best = np.full((len(live), k), -np.inf, np.float32)

    def look(visitors: Positions, members: Positions) -> tuple[Positions, list[Distances]]:
        others = live.vectors[members].T
        parts = []
        for start in range(0, len(visitors), _VISITORS):
            part = visitors[start : start + _VISITORS]
            scores = live.vectors[part] @ others
            if halves is not None:
                # -d^2/2, and as much less as it may be wrong by.
                scores -= (1 + _WRONG) * (halves[part][:, None] + halves[members][None, :])
            scores[part[:, None] == members[None, :]] = -np.inf
            parts.append(_largest(scores, k))
        return visitors, parts

    for share, found in cells.shared(_PROBES, workers, look):
        told("narrowing", share)
        for visitors, parts in found:
            if not parts:
                continue
            best[visitors] = _largest(np.concatenate([best[visitors], np.concatenate(parts)], axis=1), k)
    told("narrowing", 1.0)
    last = best.min(axis=1)
    bounds: Distances = 1 + _WRONG - last if halves is None else np.sqrt(np.maximum(-2 * last, 0))
    return bounds


def _largest(scores: Distances, k: int) -> Distances:
    """The k largest of each row, in no order; all where there are fewer."""
    return scores if scores.shape[1] <= k else np.partition(scores, scores.shape[1] - k, axis=1)[:, -k:]


def _described(
    live: Live, far: Positions, distances: Distances, positions: Positions, usual: float
) -> tuple[Outlier, ...]:
    seen = live.seen(far)
    nearest_rows = live.seen(positions[:, 0])
    labels = live.labels_of(positions.ravel())
    k = positions.shape[1]
    own = live.measured(distances)
    return tuple(
        Outlier(
            row,
            float(own[at, -1]),
            float(apart[-1]) / usual if usual > 0 else float("inf"),
            reason(row.label, apart, labels[at * k : (at + 1) * k], usual, live.unit),
            other,
            float(own[at, 0]),
        )
        for at, (row, apart, other) in enumerate(zip(seen, distances, nearest_rows, strict=True))
    )


def reason(label: Label, distances: Distances, labels: list[Label], usual: float, unit: float = 1.0) -> str:
    """Why a row is an outlier, in a sentence.

    Args:
        label: Its own.
        distances: float32 (k,) of its neighbours, rising.
        labels: Of its neighbours.
        usual: The median distance of the last neighbour.
        unit: How long a distance of 1 is in the collection.
    """
    # Where a few rows are near it and the rest are not, the distances leap after those.
    leaps = np.flatnonzero(distances[1:] >= _LEAP * np.maximum(distances[:-1], np.finfo(np.float32).tiny))
    if distances[-1] <= usual:
        told = "no further from the others than is usual"
    elif len(leaps):
        few = int(leaps[-1]) + 1
        others = f"{few} other{'s' if few > 1 else ''}"
        told = f"it stands apart together with {others}: the next row is {_words(distances[few], unit)} away"
    else:
        told = f"nothing is like it: even the nearest row is {_words(distances[0], unit)} away"
    named = Counter(other for other in labels if other is not None).most_common(1)
    if label is None or not named or named[0][0] == label or named[0][1] < _AGREE * len(labels):
        return told
    return (
        f"{told}; labelled {label_words(label)}, but {named[0][1]} of its {len(labels)} nearest rows are "
        f"{label_words(named[0][0])}"
    )


def _words(distance: np.float32, unit: float) -> str:
    return distance_words(float(distance) * unit)
