"""Groups of rows dealt to folds so that sizes and classes come out even. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def deal_groups(
    strata: NDArray[np.int64], groups: NDArray[np.int64], folds: int, seed: int
) -> NDArray[np.int64]:
    """(N,) the fold of each row; rows of one group share one.

    Groups of several rows go first, the largest at the head, each to the fold where its classes are
    fewest; single rows then level what these left uneven.

    Args:
        strata: (N,) from 0 on, the class of each row.
        groups: (N,) from 0 on.
        folds: At most as many as groups.
        seed: Of the order among equals.
    """
    generator = np.random.default_rng(seed)
    sizes = np.bincount(groups)
    single = sizes[groups] == 1
    table = np.zeros((folds, int(strata.max()) + 1), np.int64)
    assigned = np.empty(len(groups), np.int64)
    fold_of = _deal_large(strata, groups, sizes, table, generator)
    assigned[~single] = fold_of[groups[~single]]
    _deal_single(strata, np.flatnonzero(single), table, assigned, generator)
    return assigned


def _deal_large(
    strata: NDArray[np.int64],
    groups: NDArray[np.int64],
    sizes: NDArray[np.int64],
    table: NDArray[np.int64],
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """(groups,) the fold of each group of several rows, counted into ``table``."""
    totals = np.bincount(strata, minlength=table.shape[1])
    fold_of = np.full(len(sizes), -1, np.int64)
    large = np.flatnonzero(sizes > 1)
    if not len(large):
        return fold_of
    rows = np.flatnonzero(sizes[groups] > 1)
    held, counts = np.unique(np.stack([groups[rows], strata[rows]], axis=1), axis=0, return_counts=True)
    starts = np.searchsorted(held[:, 0], large)
    ends = np.searchsorted(held[:, 0], large, side="right")
    order = generator.permutation(len(large))
    order = order[np.argsort(-sizes[large[order]], kind="stable")]
    filled = np.zeros(len(table), np.int64)
    for i in order.tolist():
        part = slice(starts[i], ends[i])
        classes, added = held[part, 1], counts[part]
        # Growth of the sum of squared shares: least where these classes are fewest.
        cost = (added * (2 * table[:, classes] + added) / totals[classes]).sum(axis=1)
        fold = int(np.lexsort((filled, cost))[0])
        table[fold, classes] += added
        filled[fold] += int(added.sum())
        fold_of[large[i]] = fold
    return fold_of


def _deal_single(
    strata: NDArray[np.int64],
    rows: NDArray[np.int64],
    table: NDArray[np.int64],
    assigned: NDArray[np.int64],
    generator: np.random.Generator,
) -> None:
    """Deals rows one by one to the fold that has fewest of their class, and of those the smallest."""
    filled = table.sum(axis=1)
    by_class = rows[np.argsort(strata[rows], kind="stable")]
    for part in np.split(by_class, np.flatnonzero(np.diff(strata[by_class])) + 1):
        if not len(part):
            continue
        # A fold that has n of a class takes its next ones at levels n, n + 1, ...; the lowest levels are taken.
        levels = table[:, strata[part[0]], None] + np.arange(len(part))
        rank = np.argsort(np.argsort(filled, kind="stable"))
        ranks = np.repeat(rank, len(part))
        taken = np.lexsort((ranks, levels.ravel()))[: len(part)] // len(part)
        assigned[generator.permutation(part)] = taken
        filled += np.bincount(taken, minlength=len(filled))
