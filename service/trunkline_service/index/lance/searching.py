"""Searches of collections that are larger than memory; behind the same options and outcomes as all others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.convert import as_label
from trunkline_service.collections.filters import bind
from trunkline_service.collections.nearest import StoredVectors
from trunkline_service.collections.tokens import Bound
from trunkline_service.errors import FailedPrecondition, InvalidArgument, StorageError
from trunkline_service.index.calling_off import check_wanted, never
from trunkline_service.index.card import Recall
from trunkline_service.index.lance.candidates import Candidates, Effort, Where, by_comparing, by_index
from trunkline_service.index.lance.finding import Finder, Found
from trunkline_service.index.metric import prepared
from trunkline_service.index.outcome import Hit, Searched, SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import check_queries
from trunkline_service.index.workers import Workers

EXACT_ROWS = 10_000
"""So few rows are read and compared: what a filter leaves, or the collection."""
_ATTEMPTS = 3
_TEXTS = ("id", "label", "source")


@dataclass(frozen=True)
class Tuned:
    """What was measured of one index of Lance's.

    Attributes:
        uuid: The index, see `VectorIndex`.
        effort: That searches make.
        recall: What it gives.
    """

    uuid: str
    effort: Effort
    recall: Recall | None

    @property
    def k(self) -> int:
        """Of the recall."""
        return DEFAULT_K if self.recall is None else self.recall.k


DEFAULT_K = 10
DEFAULT_EFFORT = Effort(nprobes=20, refine_factor=10)
"""Of an index that was not measured."""


class LanceSearch:
    """Searches a collection in its store; keeps no vectors, and is safe to share among threads.

    Every search sees the latest version. Without an index, or where few rows are left by a filter, all of
    them are read and compared.

    Args:
        collection: What is searched.
        tuned: What was measured; it is used while its index is the collection's.
        workers: Threads for comparing.
        exact_rows: So many rows are compared without the index.
    """

    def __init__(
        self,
        collection: Collection,
        tuned: Tuned | None = None,
        workers: Workers | None = None,
        exact_rows: int = EXACT_ROWS,
    ) -> None:
        self._collection = collection
        self._tuned = tuned
        self._workers = workers or Workers(1)
        self._exact_rows = exact_rows

    def search(
        self,
        queries: NDArray[np.float32],
        options: SearchOptions,
        exclude_ids: Sequence[str | None] | None = None,
        *,
        cancelled: Callable[[], bool] = never,
    ) -> SearchOutcome:
        """The nearest rows of each query; see `Searcher.search`.

        Raises:
            InvalidArgument: Queries, a condition, a column or ``exclude_ids`` that can't be used.
            FailedPrecondition: ``min_version`` was never written.
            Cancelled: ``cancelled`` said so.
            CollectionNotFound: The collection was dropped.
            StorageError: It can't be read.
        """
        for _ in range(_ATTEMPTS - 1):
            stored = self._collection.stored_vectors()
            try:
                return self._in(stored, queries, options, exclude_ids, cancelled)
            except (InvalidArgument, StorageError):
                # The version may have been removed while it was read.
                if self._collection.version == stored.version:
                    raise
        return self._in(self._collection.stored_vectors(), queries, options, exclude_ids, cancelled)

    def _in(
        self,
        stored: StoredVectors,
        queries: NDArray[np.float32],
        options: SearchOptions,
        exclude_ids: Sequence[str | None] | None,
        cancelled: Callable[[], bool],
    ) -> SearchOutcome:
        spec = stored.spec
        check_queries(self._collection.name, queries, spec.dim, exclude_ids)
        if stored.version < options.min_version:
            raise FailedPrecondition(
                f"collection {self._collection.name!r} is at version {stored.version}; min_version "
                f"{options.min_version} was never written to it, or to another collection of this name"
            )
        if options.group_by is not None:
            stored.check_column(options.group_by)
        effort = self._effort(stored, options.k)
        source = Source(stored, options, effort, self._workers, self._exact_rows, cancelled)
        finder = Finder(options, spec.metric, source.best, source.rows)
        asked = prepared(queries, spec.metric)
        found = finder.find(asked, exclude_ids or [None] * len(queries), cancelled=cancelled)
        exact = source.exact and all(each.complete for each in found)
        hits = [_hits(each) for each in found]
        how = self._how(stored, options.k, exact=exact)
        return SearchOutcome(spec.space_id, stored.version, spec.metric, hits, how, stored.uid)

    def _effort(self, stored: StoredVectors, k: int) -> Effort:
        """What was measured, and more where more neighbours are asked for: they lie in more partitions."""
        tuned = self._of(stored)
        effort, measured = (DEFAULT_EFFORT, DEFAULT_K) if tuned is None else (tuned.effort, tuned.k)
        grown = math.sqrt(max(1.0, k / measured))
        return Effort(math.ceil(effort.nprobes * grown), effort.refine_factor)

    def _of(self, stored: StoredVectors) -> Tuned | None:
        """What was measured of the index that the version has."""
        known = self._tuned is not None and stored.index is not None and self._tuned.uuid == stored.index.uuid
        return self._tuned if known else None

    def _how(self, stored: StoredVectors, k: int, *, exact: bool) -> Searched:
        if stored.index is None:
            return Searched("flat", exact, stored.version)
        tuned = self._of(stored)
        # What was measured for fewer neighbours says nothing of more; one more is a row that asks for others.
        told = tuned is not None and not exact and k <= tuned.k + 1
        return Searched("lance", exact, stored.index.built_from, tuned.recall if tuned and told else None)


class Source:
    """The candidates of one search.

    Args:
        stored: The version.
        options: Whose condition holds for all candidates.
        effort: Of the index.
        workers: Threads.
        exact_rows: See `LanceSearch`.
        cancelled: Asked before every search, and while rows are read.

    Attributes:
        exact: Every row that could be among them was compared.
        rows: Rows that the condition lets through.
    """

    def __init__(
        self,
        stored: StoredVectors,
        options: SearchOptions,
        effort: Effort,
        workers: Workers,
        exact_rows: int,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self.exact = True
        self._stored = stored
        self._options = options
        self._effort = effort
        self._workers = workers
        self._exact_rows = exact_rows
        self._cancelled = cancelled
        self._columns = tuple(dict.fromkeys((*_TEXTS, *([options.group_by] if options.group_by else []))))
        self._all = stored.count()
        self._where = bind(options.where, options.parameters)
        self.rows = self._all if self._where is None else stored.count(self._where)

    def best(self, queries: NDArray[np.float32], k: int, also: str | None = None) -> list[Candidates]:
        """The best rows of each query, fewer than k only where there are no more.

        Args:
            queries: float32 (Q, dim), prepared.
            k: At least 1.
            also: A second condition.

        Raises:
            Cancelled: The search was called off.
        """
        check_wanted(self._cancelled)
        where: Where = (_both(self._where, also), ())
        if self._stored.index is None or self._options.exact or self.rows <= max(k, self._exact_rows):
            return self._by_comparing(queries, k, where)
        share = self.rows / max(1, self._all)
        found = by_index(self._stored, queries, k, where, self._effort, share, self._columns)
        doubtful = [at for at, part in enumerate(found) if self._is_doubtful(part, k)]
        if doubtful:
            anew = self._by_comparing(queries[doubtful], k, where)
            for at, part in zip(doubtful, anew, strict=True):
                found[at] = part
        self.exact = self.exact and len(doubtful) == len(queries)
        return found

    def _by_comparing(self, queries: NDArray[np.float32], k: int, where: Where) -> list[Candidates]:
        return by_comparing(self._stored, queries, k, where, self._columns, self._workers, self._cancelled)

    def _is_doubtful(self, found: Candidates, k: int) -> bool:
        """Whether rows may be missing that Lance can't find: of zeros, whose cosine to everything is 0."""
        if len(found) < k:
            return True
        least = self._options.min_score
        return (
            self._stored.spec.metric == "cosine" and found.scores[-1] <= 0 and (least is None or least <= 0)
        )


def _both(where: Bound | None, also: str | None) -> Bound | None:
    """The caller's condition, which is bound and in brackets, and one of the search's own."""
    if also is None:
        return where
    return Bound(f"({also})") if where is None else Bound(f"{where} AND ({also})", where.written)


def _hits(found: Found) -> list[Hit]:
    rows = found.rows.to_pydict() if found.rows is not None else {}
    return [
        Hit(rows["id"][at], found.scores[at], as_label(rows["label"][at]), rows["source"][at], group, folded)
        for at, (group, folded) in enumerate(zip(found.groups, found.folded, strict=True))
    ]
