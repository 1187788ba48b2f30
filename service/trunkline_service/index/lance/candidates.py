"""The best rows of one version for some queries: by Lance's index, or by comparing all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.metadata import Scalar
from trunkline_service.collections.nearest import Neighbours, StoredVectors
from trunkline_service.index import exact
from trunkline_service.index.calling_off import check_wanted, never
from trunkline_service.index.metric import pair_scores, prepared
from trunkline_service.index.workers import Workers

_MOST_PROBES = 1_000_000
Where = tuple[str | None, Sequence[Scalar]]


@dataclass(frozen=True)
class Effort:
    """How hard Lance's index looks.

    Attributes:
        nprobes: Partitions, without a filter.
        refine_factor: So many times k candidates are compared by their vectors.
    """

    nprobes: int
    refine_factor: int


@dataclass(frozen=True, eq=False)
class Candidates:
    """The best rows of one query, best first; of equal scores the lower row id first.

    Attributes:
        scores: float32 (n,), exact.
        row_ids: uint64 (n,).
        vectors: float32 (n, dim), prepared.
        rows: An Arrow table of n rows.
    """

    scores: NDArray[np.float32]
    row_ids: NDArray[np.uint64]
    vectors: NDArray[np.float32]
    rows: Any

    def __len__(self) -> int:
        return len(self.row_ids)


def by_index(
    stored: StoredVectors,
    queries: NDArray[np.float32],
    k: int,
    where: Where,
    effort: Effort,
    share: float,
    columns: Sequence[str],
) -> list[Candidates]:
    """About the k best rows of each query, by Lance's index.

    Args:
        stored: The version.
        queries: float32 (Q, dim), prepared.
        k: At least 1.
        where: A condition with its parameters.
        effort: Without a condition.
        share: Of the rows that the condition lets through. They may lie in any partition, also all of them far
            from the query, so the effort grows as the share falls.
        columns: Of the rows.
    """
    # Lance takes as many as there are.
    nprobes = min(_MOST_PROBES, math.ceil(effort.nprobes / max(share, 1e-9)))
    found = stored.nearest(
        queries, k, *where, nprobes=nprobes, refine_factor=effort.refine_factor, columns=columns
    )
    return [_ranked(query, near, k, stored.spec.metric) for query, near in zip(queries, found, strict=True)]


def by_comparing(
    stored: StoredVectors,
    queries: NDArray[np.float32],
    k: int,
    where: Where,
    columns: Sequence[str],
    workers: Workers,
    cancelled: Callable[[], bool] = never,
) -> list[Candidates]:
    """The k best rows of each query; every row is read and compared, and ``cancelled`` asked meanwhile."""
    _, row_ids = compared(stored, queries, k, where, workers, cancelled)
    there = row_ids >= 0
    near = stored.rows(row_ids[there].astype(np.uint64), columns)
    ends = np.cumsum(there.sum(axis=1)).tolist()
    parts = (slice(start, end) for start, end in zip([0, *ends], ends, strict=False))
    return [
        _ranked(
            query,
            Neighbours(
                near.row_ids[part], near.embeddings[part], near.rows.slice(part.start, part.stop - part.start)
            ),
            k,
            stored.spec.metric,
        )
        for query, part in zip(queries, parts, strict=True)
    ]


def compared(
    stored: StoredVectors,
    queries: NDArray[np.float32],
    k: int,
    where: Where,
    workers: Workers,
    cancelled: Callable[[], bool] = never,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores (Q, k) and row ids (Q, k) of the best rows, in one pass; ``-inf`` and -1 where there are fewer.

    Raises:
        Cancelled: ``cancelled`` said so; it is asked at every batch.
    """
    metric = stored.spec.metric
    best = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    for batch in stored.scan(*where):
        check_wanted(cancelled)
        vectors = prepared(batch.embeddings, metric)
        halves = exact.half_squares_of(vectors) if metric == "euclidean" else None
        scores, at = exact.nearest(queries, vectors, min(k, len(vectors)), metric, None, halves, workers)
        names = np.where(at < 0, -1, batch.row_ids.astype(np.int64)[at])
        best = exact.merged([best, (scores, names)], k)
    return best


def joined(parts: Sequence[Candidates]) -> Candidates:
    """All of them, each row once."""
    import pyarrow as pa

    row_ids = np.concatenate([part.row_ids for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    _, first = np.unique(row_ids, return_index=True)
    order = first[np.lexsort((row_ids[first], -scores[first]))]
    return Candidates(
        scores[order],
        row_ids[order],
        np.concatenate([part.vectors for part in parts])[order],
        pa.concat_tables([part.rows for part in parts]).take(order),
    )


def _ranked(query: NDArray[np.float32], near: Neighbours, k: int, metric: str) -> Candidates:
    """By scores computed here: Lance's own are of half precision where the collection is."""
    vectors = prepared(near.embeddings, metric)
    scores = pair_scores(query[None], vectors[None], metric)[0]
    order = np.lexsort((near.row_ids, -scores))[:k]
    return Candidates(scores[order], near.row_ids[order], vectors[order], near.rows.take(order))
