"""Near duplicates: pairs, groups of them, and which row of a group to keep."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trunkline_service.errors import InvalidArgument
from trunkline_service.explore.cell_pairs import near_pairs
from trunkline_service.explore.live import Live, Seen, Told
from trunkline_service.explore.pairs import Near, Pairs, PairSink, Positions, Scores, all_pairs
from trunkline_service.index.workers import Workers

DEFAULT_THRESHOLD = 0.97
"""Of cosines. Below, different images of one thing begin to be as near as an image and its copies."""

EXACT_ROWS = 100_000
"""Up to so many rows, every one is compared with every other one; above only where that is asked for."""

MOST_PAIRS = 10_000
"""Pairs that are listed one by one, the nearest ones; groups and counts are of all."""

# Rows of a group that are compared with the rest of it at a time.
_TOGETHER = 256
# Cosines of exact copies differ by rounding, in later digits than these.
_ALIKE_DIGITS = 5


@dataclass(frozen=True)
class Copy:
    """A row of a group of near duplicates.

    Attributes:
        row: The row.
        keep: Whether to keep it.
        like: Id of the row to keep that it is nearest to; None for one to keep.
        score: How near it is to that; None for one to keep.
    """

    row: Seen
    keep: bool
    like: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class Group:
    """Rows that are joined by near-duplicate pairs, directly or through others.

    Attributes:
        copies: Those to keep first: the best row, and every row that is not as near as the threshold to a
            better one that is kept. Each of the others is at least as near to one of these as the threshold.
    """

    copies: tuple[Copy, ...]

    @cached_property
    def labels_differ(self) -> bool:
        """Whether rows of it have different labels, so that some may be wrong."""
        return len({copy.row.label for copy in self.copies if copy.row.label is not None}) > 1

    @cached_property
    def splits_differ(self) -> bool:
        """Whether it lies on both sides of a split, so that a figure of the test rows flatters."""
        return len({copy.row.split for copy in self.copies if copy.row.split is not None}) > 1


@dataclass(frozen=True)
class NearPair:
    """Two rows that are nearly the same.

    Attributes:
        first: Id of one.
        second: Id of the other.
        score: How near they are.
    """

    first: str
    second: str
    score: float


@dataclass(frozen=True)
class Duplicates:
    """The near duplicates of a collection.

    Attributes:
        collection: Its name.
        version: That was read.
        space_id: Of its vectors.
        metric: ``cosine``, or ``euclidean``, of which scores are minus the distance.
        threshold: The least score of a pair.
        rows: That were compared.
        pair_count: Pairs found.
        pairs: The nearest of them, at most `MOST_PAIRS`.
        groups: Those of the nearest pairs first, so that exact copies lead; of equal ones the largest.
        exact: Whether every row was compared with every other one.
        recall: Where not, the share of pairs that was found, of those of a sample of rows that were compared
            with all; None where it is exact, or the sample has no pairs.
        recall_pairs: Of how many pairs that was measured.
    """

    collection: str
    version: int
    space_id: str
    metric: str
    threshold: float
    rows: int
    pair_count: int
    pairs: tuple[NearPair, ...]
    groups: tuple[Group, ...]
    exact: bool
    recall: float | None = None
    recall_pairs: int = 0


def find_duplicates(
    live: Live,
    threshold: float | None = None,
    *,
    exact: bool = False,
    exact_rows: int = EXACT_ROWS,
    workers: Workers | None = None,
    told: Told = lambda _stage, _share: None,
) -> Duplicates:
    """Pairs of rows that are at least as near as a threshold.

    Of a group, it is proposed to keep the row that has a label before one that has none, the larger file
    before a smaller one, the older row before a newer one; and every row that is not near enough to one of
    those that are kept already.

    Args:
        live: The rows.
        threshold: A cosine above 0; for ``euclidean`` minus a distance. None for `DEFAULT_THRESHOLD`.
        exact: Compare all rows with all, however many they are.
        exact_rows: Up to how many rows that is done anyway.
        workers: Threads; None for the caller's alone.
        told: How far it is.

    Raises:
        InvalidArgument: A threshold that can't be used.
    """
    limit = check_threshold(threshold, live.compared)
    workers = workers or Workers(1)
    rows = len(live)
    near = Near(live.vectors, live.compared, limit / live.unit)
    sink = PairSink(rows, MOST_PAIRS)
    recall, measured = None, 0
    whole = exact or rows <= exact_rows
    if whole:
        all_pairs(near, sink, workers, told)
    else:
        recall, measured = near_pairs(near, live.compared, sink, workers, told)
    pairs = sink.pairs()
    told("grouping", 0.0)
    groups = _groups(live, near, pairs, told)
    told("grouping", 1.0)
    return Duplicates(
        live.name,
        live.version,
        live.spec.space_id,
        live.compared,
        limit,
        rows,
        pairs.count,
        _listed(live, pairs),
        groups,
        whole,
        recall,
        measured,
    )


def check_threshold(threshold: float | None, compared: str) -> float:
    """The threshold, or the default one.

    Raises:
        InvalidArgument: One that can't be, or none where there is no default.
    """
    if compared == "cosine":
        limit = DEFAULT_THRESHOLD if threshold is None else threshold
        if not 0 < limit <= 1:
            raise InvalidArgument(
                f"threshold is {limit}; give a cosine above 0 and up to 1, 0.97 for example"
            )
        return float(limit)
    if threshold is None or not (math.isfinite(threshold) and threshold <= 0):
        raise InvalidArgument(
            f"threshold is {threshold}; this collection's metric is euclidean, where a score is minus the "
            "distance: give -0.5 for pairs of a distance of at most 0.5"
        )
    return float(threshold)


def _listed(live: Live, pairs: Pairs) -> tuple[NearPair, ...]:
    import pyarrow as pa

    first, second = (live.ids.take(pa.array(side)).to_pylist() for side in (pairs.first, pairs.second))
    return tuple(map(NearPair, first, second, live.measured(pairs.scores).tolist()))


def _groups(live: Live, near: Near, pairs: Pairs, told: Told) -> tuple[Group, ...]:
    sizes = np.bincount(pairs.codes, minlength=1)
    joined = np.flatnonzero(sizes[pairs.codes] > 1) if len(live) else np.empty(0, np.int64)
    if not len(joined):
        return ()
    files = live.read_sizes()
    unlabelled = live.labels.is_null().to_numpy(zero_copy_only=False)
    # Within a group, what is rather kept comes first.
    order = joined[np.lexsort((joined, -files[joined], unlabelled[joined], pairs.codes[joined]))]
    seen = live.seen(order, files)
    starts = np.flatnonzero(np.diff(pairs.codes[order], prepend=-1))
    groups: list[tuple[float, Group]] = []
    for start, end in itertools.pairwise([*starts.tolist(), len(order)]):
        told("grouping", start / len(order))
        members = order[start:end]
        best = round(float(pairs.best[members].max()), _ALIKE_DIGITS)
        groups.append((best, _group(live, near, members, seen[start:end], told)))
    groups.sort(key=lambda entry: (-entry[0], -len(entry[1].copies)))
    return tuple(group for _, group in groups)


def _group(live: Live, near: Near, ranked: Positions, seen: list[Seen], told: Told) -> Group:
    like, scores = keepers(near, ranked, told)
    copies = [
        Copy(row, True) if at < 0 else Copy(row, False, seen[at].id, score)
        for row, at, score in zip(seen, like.tolist(), live.measured(scores).tolist(), strict=True)
    ]
    return Group(tuple(sorted(copies, key=lambda copy: (not copy.keep, -(copy.score or 0.0)))))


def keepers(
    near: Near, ranked: Positions, told: Told = lambda _stage, _share: None
) -> tuple[Positions, Scores]:
    """Which rows to keep: each, best first, that is not near enough to one that is kept already.

    Args:
        near: Knows what is near enough.
        ranked: int64 (n,) positions, best first.
        told: How far it is.

    Returns:
        int64 (n,): -1 for those to keep, for others the place in ``ranked`` of the nearest one of these; and
        float32 (n,) how near they are, ``-inf`` for those to keep.
    """
    like = np.full(len(ranked), -1, np.int64)
    scores = np.full(len(ranked), -np.inf, np.float32)
    start = 0
    while start < len(ranked):
        told("grouping", start / len(ranked))
        # Places that nothing covers yet; some of them will be, by others of the same block.
        block = start + np.flatnonzero(like[start:] < 0)[:_TOGETHER]
        if not len(block):
            break
        rows, hits, found = near.among(ranked[block], ranked[start:])
        bounds = np.searchsorted(rows, np.arange(len(block) + 1))
        for at, place in enumerate(block.tolist()):
            if like[place] >= 0:
                continue
            part = slice(bounds[at], bounds[at + 1])
            others, near_by = hits[part] + start, found[part]
            # Scores are the same from both sides, so that rows before this one that are kept are not near it.
            better = (others > place) & (near_by > scores[others])
            like[others[better]], scores[others[better]] = place, near_by[better]
        start = int(block[-1]) + 1
    return like, scores


def ids_to_delete(groups: Sequence[Group]) -> list[str]:
    """Ids of the rows that are not to be kept."""
    return [copy.row.id for group in groups for copy in group.copies if not copy.keep]
