"""Rows that point nearly the same way, found without comparing all with all. Pure.

Up to a few thousand rows everything is compared with everything. Beyond, rows are hashed by which side of
random planes they lie on (Charikar 2002): rows that share all bits of one of several keys are candidates,
their whole signatures weed most of them out, and exact cosines decide. At the cosines of near duplicates
nearly every pair is found; a pair that is not is a pair less kept together, no error.

What is held beside the rows grows with their number alone, whatever they are: rows that are together
already are not compared again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.training.partitions import components

_ALL_PAIRS_ROWS = 2048
_CHUNK_ROWS = 4096
_KEYS = 8
_BITS = 16
_MIN_KEY_BITS = 10
_SAMPLE = 4096
# Of the 128 bits of a signature. Of 4,317 photographs of flowers, pairs of cosine 0.99 differ in 7 on average,
# pairs of cosine 0.5 in 66.
_MAX_DIFFERENT = 24
# Neighbours in the order of a key that a row is compared with; caps the work where a key is common.
_MAX_COMPARED = 20_000_000
_MAX_REACH = 256
# Pairs that are looked at together.
_MAX_HELD = 1 << 20
_POPCOUNT = np.array([bin(i).count("1") for i in range(1 << _BITS)], np.uint8)


class Stacked:
    """Two matrices as one, of which only what is asked for is copied."""

    def __init__(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
        """``first`` and ``second`` are (N, dim) and (n, dim)."""
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, where: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        places = np.arange(*where.indices(len(self))) if isinstance(where, slice) else where
        ahead = places < len(self._first)
        found = np.empty((len(places), self._first.shape[1]), np.float32)
        found[ahead] = self._first[places[ahead]]
        found[~ahead] = self._second[places[~ahead] - len(self._first)]
        return found


def close_groups(
    rows: NDArray[np.float32] | Stacked, cosine: float, chosen: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """(n,) int64, equal for rows that cosines of at least ``cosine`` join, directly or through others.

    Args:
        rows: (N, dim) float32, C-contiguous; may be mapped from a file. Rows of zeros are near nothing.
        cosine: Well above what unrelated rows have.
        chosen: (n,) positions of the rows to look at; None for all N.
    """
    taken = _Taken(rows, chosen)
    if len(taken) <= _ALL_PAIRS_ROWS:
        return components(len(taken), _all_pairs(taken[slice(None)], cosine))
    signatures, lengths = _signatures(taken)
    codes = np.arange(len(taken))
    for key in range(_KEYS):
        for pairs in _candidates(signatures, key):
            apart = pairs[codes[pairs[:, 0]] != codes[pairs[:, 1]]]
            close = apart[_cosines(taken, lengths, apart) >= cosine]
            if len(close):
                codes = components(len(codes), codes[close])[codes]
    return codes


class _Taken:
    """Some of the rows, of which only what is asked for is copied."""

    def __init__(self, rows: NDArray[np.float32] | Stacked, chosen: NDArray[np.int64] | None) -> None:
        self._rows, self._chosen = rows, chosen

    def __len__(self) -> int:
        return len(self._rows if self._chosen is None else self._chosen)

    def __getitem__(self, where: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        part: NDArray[np.float32] = self._rows[where if self._chosen is None else self._chosen[where]]
        return part


def _lengths(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    lengths[lengths == 0] = np.inf
    return lengths


def _all_pairs(rows: NDArray[np.float32], cosine: float) -> NDArray[np.int64]:
    unit = rows / _lengths(rows)[:, None]
    return np.argwhere(np.triu(unit @ unit.T >= cosine, k=1))


def _signatures(taken: _Taken) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """(keys, n) which side of each plane a row lies on, 16 planes a key; and (n,) the rows' lengths."""
    generator = np.random.default_rng(0)
    sample = taken[np.sort(generator.choice(len(taken), min(_SAMPLE, len(taken)), replace=False))]
    planes = generator.normal(size=(sample.shape[1], _KEYS * _BITS)).astype(np.float32)
    # Planes that about halve the rows tell the most; the origin is far outside most spaces' rows.
    middle = (sample / _lengths(sample)[:, None]).mean(axis=0) @ planes
    signatures = np.empty((_KEYS, len(taken)), np.uint16)
    lengths = np.empty(len(taken), np.float32)
    for start in range(0, len(taken), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        rows = taken[part]
        lengths[part] = _lengths(rows)
        # Rows of zeros lie somewhere: they are near nothing by their lengths.
        finite = np.where(np.isinf(lengths[part]), np.float32(1), lengths[part])
        above = rows @ planes > middle * finite[:, None]
        signatures[:, part] = np.packbits(above, axis=1, bitorder="little").view("<u2").T
    return signatures, lengths


def _candidates(signatures: NDArray[np.uint16], key: int) -> Iterator[NDArray[np.int64]]:
    """(P, 2) pairs that share the first bits of a key and most of the whole signature, some at a time."""
    count = signatures.shape[1]
    reach = int(np.clip(_MAX_COMPARED // count, 1, _MAX_REACH))
    # So many that a key is shared by a few rows, where all bits are equally likely.
    bits = min(max(_MIN_KEY_BITS, int(np.log2(count))), 2 * _BITS)
    words = (signatures[key].astype(np.uint32) << _BITS) | signatures[(key + 1) % _KEYS]
    # Among those that share a key, the ones that share more come together: where it is common, they are
    # reached first.
    order = np.argsort(words, kind="stable")
    keys = words[order] >> (2 * _BITS - bits)
    arranged = signatures[:, order]
    ends = np.append(np.flatnonzero(keys[1:] != keys[:-1]) + 1, count)
    following = np.repeat(ends, np.diff(ends, prepend=0)) - np.arange(count) - 1
    compared = np.cumsum(np.minimum(following, reach))
    marks = np.arange(_MAX_HELD, compared[-1], _MAX_HELD)
    starts = [0, *(np.searchsorted(compared, marks) + 1).tolist(), count]
    for start, end in itertools.pairwise(starts):
        counts = np.diff(compared[start:end], prepend=compared[start - 1] if start else 0)
        first = np.repeat(np.arange(start, start + len(counts)), counts)
        second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        different = np.zeros(len(first), np.uint8)
        for bits_of_key in arranged:
            different += _POPCOUNT[bits_of_key[first] ^ bits_of_key[second]]
        near = different <= _MAX_DIFFERENT
        yield np.stack([order[first[near]], order[second[near]]], axis=1)


def _cosines(taken: _Taken, lengths: NDArray[np.float32], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    cosines = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _CHUNK_ROWS):
        first, second = pairs[start : start + _CHUNK_ROWS].T
        dots = np.einsum("ij,ij->i", taken[first], taken[second])
        cosines[start : start + _CHUNK_ROWS] = dots / (lengths[first] * lengths[second])
    return cosines
