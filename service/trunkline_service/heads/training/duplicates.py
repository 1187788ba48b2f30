"""Which rows are one image in several forms: they must never stand on both sides of a split.

Embeddings of one image in two sizes or compressions have a cosine above ``NEAR_COSINE``, and different
images of one class rarely do: of 9.3 million pairs of 4,317 photographs of flowers, 8 do. Where many do (random
weights, few dimensions), it says nothing, and only equal embeddings count as duplicates.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.training.close_pairs import close_pairs

NEAR_COSINE = 0.995
# In fewer, vectors of different things come that close by chance: of iris's 4 measurements, most do.
MIN_DIM = 32
# One group of more rows than that is no image with its copies.
_MAX_SHARE = 0.2
_MAX_ROWS = 10
_HASH_ROWS = 8192


@dataclass(frozen=True, eq=False)
class Grouping:
    """Rows that stay together.

    Attributes:
        codes: (N,) int64, equal for rows of one group, from 0 on in the order of their first rows.
        notes: What was found, and what was not looked for, in sentences.
    """

    codes: NDArray[np.int64]
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many groups there are, those of one row among them."""
        return int(self.codes.max(initial=-1)) + 1


def group_rows(
    embeddings: NDArray[np.float32],
    groups: Sequence[Hashable | None] | None,
    classes: NDArray[np.int64] | None,
    duplicates: bool = True,
) -> Grouping:
    """The connected components of: same group, equal embedding, nearly equal embedding.

    Near duplicates are left out of it where they make no sense: all of them where a component of theirs
    would hold more than 20% of the rows; those of one component where it is a whole class, of which
    nothing would be left to learn from.

    Args:
        embeddings: (N, dim) float32.
        groups: One a row, None for none; None where no row has any.
        classes: (N,) class of each row; None where there are no classes.
        duplicates: Look for equal and nearly equal embeddings; else by ``groups`` alone.
    """
    alike, notes = np.arange(len(embeddings)), list[str]()
    if duplicates:
        alike, notes = _near_rows(embeddings, equal_rows(embeddings), classes)
    joined = alike if groups is None else _joined(len(embeddings), [alike, _group_numbers(groups)])
    sizes = np.bincount(alike)
    several = sizes[sizes > 1]
    if len(several):
        notes = [
            f"{len(several)} groups of duplicates and near duplicates ({int(several.sum())} rows) are kept on "
            "one side of each split",
            *notes,
        ]
    return Grouping(_ordered(joined), tuple(notes))


def equal_rows(embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) int64, equal numbers for equal rows, from 0 on in the order of first rows."""
    rows = np.ascontiguousarray(embeddings)
    keys = _row_hashes(rows)
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    fresh = np.ones(len(rows), np.bool_)
    # Equal hashes are only a hint.
    fresh[same + 1] = (rows[order[same + 1]] != rows[order[same]]).any(axis=1)
    codes = np.empty(len(rows), np.int64)
    codes[order] = np.cumsum(fresh) - 1
    return _ordered(codes)


def _near_rows(
    embeddings: NDArray[np.float32],
    equal: NDArray[np.int64],
    classes: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int64], list[str]]:
    """``equal`` joined by near duplicates where these make sense, and notes."""
    if embeddings.shape[1] < MIN_DIM:
        return equal, []
    firsts = np.unique(equal, return_index=True)[1]
    # Numbers are in the order of first rows, so where all rows differ, each row's number is its position.
    pairs = close_pairs(embeddings if len(firsts) == len(embeddings) else embeddings[firsts], NEAR_COSINE)
    if not len(pairs):
        return equal, []
    near = _components(len(firsts), pairs)[equal]
    sizes = np.bincount(near)
    if sizes.max() > max(_MAX_ROWS, _MAX_SHARE * len(near)):
        return equal, [
            f"embeddings of a cosine of {NEAR_COSINE} or more are too common here to mean near duplicates (one "
            f"group of them would hold {sizes.max()} of {len(near)} rows): only equal embeddings are kept on one "
            "side of each split"
        ]
    if classes is None:
        return near, []
    whole = _whole_classes(near, classes)
    # What is equal through and through can't be split.
    whole &= np.bincount(near[firsts]) > 1
    if not whole.any():
        return near, []
    split = whole[near]
    # Numbers above those of the groups that stay.
    return np.where(split, equal + len(sizes), near), [
        f"{int(whole.sum())} groups of near duplicates hold all rows of a class: they are split all the "
        "same, so the figures of these classes may be flattering"
    ]


def _whole_classes(near: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each component whether some class has all its rows in it."""
    order = np.lexsort((near, classes))
    starts = np.flatnonzero(np.diff(classes[order], prepend=-1))
    ends = np.append(starts[1:], len(order)) - 1
    # Sorted within the class: the first and the last are equal where all are.
    alone = near[order[starts]] == near[order[ends]]
    whole = np.zeros(int(near.max()) + 1, np.bool_)
    whole[near[order[starts[alone]]]] = True
    return whole


def _row_hashes(rows: NDArray[np.float32]) -> NDArray[np.uint64]:
    multipliers = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], dtype=np.uint64) * np.uint64(2)
    multipliers += np.uint64(1)
    keys = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), _HASH_ROWS):
        words = rows[start : start + _HASH_ROWS].view(np.uint32)
        keys[start : start + _HASH_ROWS] = (words * multipliers).sum(axis=1, dtype=np.uint64)
    return keys


def _group_numbers(groups: Sequence[Hashable | None]) -> NDArray[np.int64]:
    """(N,) int64, equal for equal groups; rows of none have numbers of their own."""
    known: dict[Hashable, int] = {}
    numbers = (
        len(groups) + i if group is None else known.setdefault(group, i) for i, group in enumerate(groups)
    )
    return np.fromiter(numbers, np.int64, len(groups))


def _joined(rows: int, relations: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Components of being equal in any of the relations."""
    pairs = []
    for relation in relations:
        order = np.argsort(relation, kind="stable")
        same = np.flatnonzero(relation[order[1:]] == relation[order[:-1]])
        pairs.append(np.stack([order[same], order[same + 1]], axis=1))
    return _components(rows, np.concatenate(pairs))


def _components(rows: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(rows,) int64, the connected component of each."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), np.int8)
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(rows, rows))
    found: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return found


def _ordered(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same partition, numbered from 0 in the order of first rows."""
    _, firsts, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(len(firsts), np.int64)
    rank[np.argsort(firsts)] = np.arange(len(firsts))
    return rank[inverse]
