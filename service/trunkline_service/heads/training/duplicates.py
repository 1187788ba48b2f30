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

from trunkline_service.heads.training.close_groups import close_groups
from trunkline_service.heads.training.partitions import first_rows, joined, ordered

NEAR_COSINE = 0.995
# In fewer, vectors of different things come that close by chance: of iris's 4 measurements, most do.
MIN_DIM = 32
# One group of more rows than that is no image with its copies.
_MAX_SHARE = 0.2
_MAX_ROWS = 10
_CHUNK_ROWS = 4096
# Columns that tell nearly all rows apart, so that few rows are looked at whole.
_HINT_COLUMNS = 16


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
    together = alike if groups is None else joined(len(embeddings), [alike, _group_numbers(groups)])
    sizes = np.bincount(alike)
    several = sizes[sizes > 1]
    if len(several):
        notes = [
            f"{len(several)} groups of duplicates and near duplicates ({int(several.sum())} rows) are kept on "
            "one side of each split",
            *notes,
        ]
    return Grouping(ordered(together), tuple(notes))


def equal_rows(embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) int64, equal numbers for equal rows, from 0 on in the order of first rows."""
    rows = np.ascontiguousarray(embeddings)
    suspects = np.arange(len(rows))
    if rows.shape[1] > _HINT_COLUMNS:
        suspects = _repeated(_row_hashes(rows[:, :_HINT_COLUMNS], suspects))
    keys = _row_hashes(rows, suspects)
    order = np.argsort(keys, kind="stable")
    ranked, places = keys[order], suspects[order]
    same = np.flatnonzero(ranked[1:] == ranked[:-1])
    fresh = np.ones(len(places), np.bool_)
    # Equal hashes are only a hint.
    fresh[same + 1] = _differ(rows, places[same], places[same + 1])
    codes = np.arange(len(rows))
    # Among equals, the first row leads.
    codes[places] = places[np.maximum.accumulate(np.where(fresh, np.arange(len(places)), 0))]
    return ordered(codes)


def equal_to_any(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,) which of the rows (n, dim) are among the others (N, dim), which may be mapped from a file."""
    keys = _row_hashes(rows, np.arange(len(rows)))
    known, seen = np.unique(keys), set[bytes]()
    for start in range(0, len(others), _CHUNK_ROWS):
        places = np.arange(start, min(start + _CHUNK_ROWS, len(others)))
        # Equal hashes are only a hint.
        hints = places[np.isin(_row_hashes(others, places), known)]
        seen.update(row.tobytes() for row in others[hints])
    return np.fromiter((row.tobytes() in seen for row in rows), np.bool_, len(rows))


def too_common(codes: NDArray[np.int64]) -> bool:
    """Whether one group of near duplicates, of those by (N,) ``codes``, is too large to be an image's copies."""
    return bool(np.bincount(codes).max(initial=0) > max(_MAX_ROWS, _MAX_SHARE * len(codes)))


def _near_rows(
    embeddings: NDArray[np.float32],
    equal: NDArray[np.int64],
    classes: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int64], list[str]]:
    """``equal`` joined by near duplicates where these make sense, and notes."""
    if embeddings.shape[1] < MIN_DIM:
        return equal, []
    firsts = first_rows(equal)
    close = close_groups(embeddings, NEAR_COSINE, None if len(firsts) == len(embeddings) else firsts)
    if len(np.unique(close)) == len(firsts):
        return equal, []
    near = close[equal]
    sizes = np.bincount(near)
    if too_common(near):
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


def _row_hashes(rows: NDArray[np.float32], chosen: NDArray[np.int64]) -> NDArray[np.uint64]:
    multipliers = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], dtype=np.uint64) * np.uint64(2)
    multipliers += np.uint64(1)
    keys = np.empty(len(chosen), np.uint64)
    for start in range(0, len(chosen), _CHUNK_ROWS):
        words = rows[chosen[start : start + _CHUNK_ROWS]].view(np.uint32)
        keys[start : start + _CHUNK_ROWS] = (words * multipliers).sum(axis=1, dtype=np.uint64)
    return keys


def _repeated(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Positions, rising, of the keys that are there more than once."""
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    several = np.append(same, False) | np.append(False, same) if len(keys) else np.empty(0, np.bool_)
    return np.sort(order[several])


def _differ(
    rows: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(P,) which pairs of rows are not equal."""
    differ = np.empty(len(first), np.bool_)
    for start in range(0, len(first), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        differ[part] = (rows[first[part]] != rows[second[part]]).any(axis=1)
    return differ


def _group_numbers(groups: Sequence[Hashable | None]) -> NDArray[np.int64]:
    """(N,) int64, equal for equal groups; rows of none have numbers of their own."""
    known: dict[Hashable, int] = {}
    numbers = (
        len(groups) + i if group is None else known.setdefault(group, i) for i, group in enumerate(groups)
    )
    return np.fromiter(numbers, np.int64, len(groups))
