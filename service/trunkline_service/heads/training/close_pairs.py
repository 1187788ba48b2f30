"""Pairs of vectors that point nearly the same way, without comparing all with all. Pure.

Up to a few thousand rows everything is compared with everything. Beyond, rows are hashed by which side of
random planes they lie on (Charikar 2002): rows that share all bits of one of several keys are candidates,
their whole signatures weed most of them out, and exact cosines decide. At the cosines of near duplicates
nearly every pair is found; a pair that is not is a pair less kept together, no error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ALL_PAIRS_ROWS = 2048
_CHUNK_ROWS = 8192
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
_POPCOUNT = np.array([bin(i).count("1") for i in range(1 << _BITS)], np.uint8)


def close_pairs(rows: NDArray[np.float32], cosine: float) -> NDArray[np.int64]:
    """(P, 2) int64, pairs of rows i < j whose cosine is at least ``cosine``; rows of zeros have none.

    Args:
        rows: (N, dim) float32.
        cosine: Well above what unrelated rows have.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    lengths[lengths == 0] = np.inf
    if len(rows) <= _ALL_PAIRS_ROWS:
        unit = rows / lengths[:, None]
        first, second = np.nonzero(np.triu(unit @ unit.T >= cosine, k=1))
        return np.stack([first, second], axis=1)
    signatures = _signatures(rows, lengths)
    reach = int(np.clip(_MAX_COMPARED // len(rows), 1, _MAX_REACH))
    # So many that a key is shared by a few rows, where all bits are equally likely.
    bits = max(_MIN_KEY_BITS, int(np.log2(len(rows))))
    found = [_candidates(signatures, key, bits, reach) for key in range(_KEYS)]
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[_cosines(rows, lengths, pairs) >= cosine]


def _signatures(rows: NDArray[np.float32], lengths: NDArray[np.float32]) -> NDArray[np.uint16]:
    """(N, keys) which side of each plane a row lies on, 16 planes a key."""
    generator = np.random.default_rng(0)
    planes = generator.normal(size=(rows.shape[1], _KEYS * _BITS)).astype(np.float32)
    sample = generator.choice(len(rows), min(_SAMPLE, len(rows)), replace=False)
    # Planes that halve the rows tell the most; the origin is far outside most spaces' rows.
    middle = np.median((rows[sample] / lengths[sample, None]) @ planes, axis=0)
    powers = (1 << np.arange(_BITS)).astype(np.uint16)
    signatures = np.empty((len(rows), _KEYS), np.uint16)
    for start in range(0, len(rows), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        above = (rows[part] / lengths[part, None]) @ planes > middle
        signatures[part] = (above.reshape(-1, _KEYS, _BITS) * powers).sum(axis=2, dtype=np.uint16)
    return signatures


def _candidates(signatures: NDArray[np.uint16], key: int, bits: int, reach: int) -> NDArray[np.int64]:
    """(P, 2) pairs i < j that share the first ``bits`` of a key and most of the whole signature."""
    following = signatures[:, (key + 1) % _KEYS]
    words = (signatures[:, key].astype(np.uint32) << _BITS) | following
    # Among those that share a key, the ones that share more come together: where it is common, they are
    # reached first.
    order = np.argsort(words, kind="stable")
    keys, ordered = words[order] >> (2 * _BITS - bits), signatures[order]
    found = [np.empty((0, 2), np.int64)]
    for step in range(1, min(reach, len(order) - 1) + 1):
        at = np.flatnonzero(keys[step:] == keys[:-step])
        if not len(at):
            break
        different = _POPCOUNT[ordered[at] ^ ordered[at + step]].sum(axis=1, dtype=np.int64)
        at = at[different <= _MAX_DIFFERENT]
        found.append(np.sort(np.stack([order[at], order[at + step]], axis=1), axis=1))
    return np.concatenate(found)


def _cosines(
    rows: NDArray[np.float32], lengths: NDArray[np.float32], pairs: NDArray[np.int64]
) -> NDArray[np.float32]:
    cosines = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _CHUNK_ROWS):
        first, second = pairs[start : start + _CHUNK_ROWS].T
        dots = np.einsum("ij,ij->i", rows[first], rows[second])
        cosines[start : start + _CHUNK_ROWS] = dots / (lengths[first] * lengths[second])
    return cosines
