"""Partitions of rows, as (N,) int64 arrays of equal numbers for rows of one part. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]


def components(count: int, pairs: Codes) -> Codes:
    """(count,) the connected component of each of ``count`` nodes.

    Args:
        count: Nodes.
        pairs: (P, 2) nodes that are joined.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), np.int8)
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    found: Codes = connected_components(graph, directed=False)[1].astype(np.int64)
    return found


def joined(rows: int, relations: Sequence[Codes]) -> Codes:
    """The finest partition in which rows are together that are so in any of several."""
    pairs = []
    for relation in relations:
        order = np.argsort(relation, kind="stable")
        same = np.flatnonzero(relation[order[1:]] == relation[order[:-1]])
        pairs.append(np.stack([order[same], order[same + 1]], axis=1))
    return components(rows, np.concatenate(pairs))


def ordered(codes: Codes) -> Codes:
    """The same partition, numbered from 0 in the order of first rows.

    Args:
        codes: (N,) not negative, and not many times larger than N.
    """
    positions = np.arange(len(codes))
    first = np.empty(int(codes.max(initial=-1)) + 1, np.int64)
    # Of several values for one place the last one stays.
    first[codes[::-1]] = positions[::-1]
    leaders = first[codes]
    numbers: Codes = (np.cumsum(leaders == positions) - 1)[leaders]
    return numbers


def first_rows(codes: Codes) -> Codes:
    """The first row of each part of a partition that is ``ordered``."""
    return np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))
