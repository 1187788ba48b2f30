"""Pairs of a large collection: rows are compared with those of near cells, and what that finds is measured."""

from __future__ import annotations

import numpy as np

from trunkline_service.explore.cells import Cells, make_cells
from trunkline_service.explore.live import Told
from trunkline_service.explore.pairs import Near, PairSink, Positions, Scores
from trunkline_service.index.workers import Workers

_MOST_PROBES = 16
_WANTED_RECALL = 0.99
_SAMPLE = 1024
_SAMPLED_PAIRS = 1 << 18
_SAMPLE_COLUMNS = 16_384
_VISITORS = 4096


def near_pairs(
    near: Near, compared: str, sink: PairSink, workers: Workers, told: Told
) -> tuple[float | None, int]:
    """Compares each row with those of a few near cells: as few as find 99% of a sample's pairs.

    Args:
        near: The rows.
        compared: ``cosine`` or ``euclidean``.
        sink: Takes the pairs.
        workers: Threads.
        told: How far it is.

    Returns:
        The share that is found of the pairs of other rows of the sample, None where they have none; and of
        how many pairs that was measured.
    """
    cells = make_cells(near.vectors, compared, _MOST_PROBES, workers, told)
    probes, recall, measured = _choose_probes(near, cells, told)
    _cell_pairs(near, cells, probes, sink, workers, told)
    return recall, measured


def _choose_probes(near: Near, cells: Cells, told: Told) -> tuple[int, float | None, int]:
    """How many cells to look into, chosen on one half of a sample; recall and its pairs on the other."""
    rows = len(near.vectors)
    sample = np.sort(np.random.default_rng(0).choice(rows, min(_SAMPLE, rows), replace=False))
    first, second = _pairs_of(near, sample, told)
    needed = np.full(len(first), cells.near.shape[1] + 1)
    for probes in range(cells.near.shape[1], 0, -1):
        met = cells.meet(first, second, probes) | cells.meet(second, first, probes)
        needed[met] = probes
    chosen = np.isin(first, sample[::2])
    probes = 2
    if chosen.any():
        probes = int(
            np.clip(np.quantile(needed[chosen], _WANTED_RECALL, method="higher"), 1, cells.near.shape[1])
        )
    measured = needed[~chosen]
    return probes, float((measured <= probes).mean()) if len(measured) else None, len(measured)


def _pairs_of(near: Near, sample: Positions, told: Told) -> tuple[Positions, Positions]:
    """The pairs of some rows with all, up to a number of them."""
    firsts, seconds, count = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    rows = len(near.vectors)
    for start in range(0, rows, _SAMPLE_COLUMNS):
        told("sampling", start / rows)
        first, second, _ = near.among(sample, slice(start, min(start + _SAMPLE_COLUMNS, rows)))
        first, second = sample[first], second + start
        other = first != second
        firsts.append(first[other])
        seconds.append(second[other])
        count += int(other.sum())
        if count >= _SAMPLED_PAIRS:
            break
    told("sampling", 1.0)
    return np.concatenate(firsts), np.concatenate(seconds)


def _cell_pairs(near: Near, cells: Cells, probes: int, sink: PairSink, workers: Workers, told: Told) -> None:
    def look(visitors: Positions, members: Positions) -> list[tuple[Positions, Positions, Scores]]:
        taken = []
        for start in range(0, len(visitors), _VISITORS):
            part = visitors[start : start + _VISITORS]
            first, second, scores = near.among(part, members)
            first, second = part[first], members[second]
            # A pair that is found from both sides is taken from the side of its lower row.
            fresh = first < second
            late = np.flatnonzero(first > second)
            fresh[late] = ~cells.meet(second[late], first[late], probes)
            taken.append((first[fresh], second[fresh], scores[fresh]))
        return taken

    for share, found in cells.shared(probes, workers, look):
        told("comparing", share)
        for taken in found:
            for pairs in taken:
                sink.add(*pairs)
    told("comparing", 1.0)
