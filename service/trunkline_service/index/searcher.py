"""Searches that see every row committed before they began."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.declared import meant_space
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import InvalidArgument, SpaceMismatch, StorageError
from trunkline_service.index.calling_off import check_wanted, never
from trunkline_service.index.finding import Finder
from trunkline_service.index.following import flat_view
from trunkline_service.index.gathering import Ask, Gatherer
from trunkline_service.index.grouping import ColumnGroups, Groups, LabelGroups
from trunkline_service.index.hits import plain_hits, shaped_hits
from trunkline_service.index.metric import prepared
from trunkline_service.index.outcome import Hit, Searched, SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.selecting import Selector, check_same
from trunkline_service.index.view import Answer, Mask, View
from trunkline_service.index.views import Views
from trunkline_service.index.workers import Workers

_GIB = 1024**3
FLAT_ROWS = 200_000
"""Up to so many rows, comparing all is fast enough: 5 ms a query of 200,000 x 384 on one core."""


@dataclass(frozen=True)
class SearchPolicy:
    """How searches are answered.

    Attributes:
        threads: The most threads that one search uses.
        flat_rows: Rows that are searched without an index; what a filter leaves of more, too.
        refresh_s: How long the store need not be asked for a newer version, in seconds; 0: every search.
        max_bytes: Of vectors, texts and indexes kept in memory, of the collections searched last. One
            collection that is larger is kept all the same.
    """

    threads: int = 1
    flat_rows: int = FLAT_ROWS
    refresh_s: float = 0.0
    max_bytes: int = 4 * _GIB


class _Asked(NamedTuple):
    """See `Searcher.search`."""

    queries: NDArray[np.float32]
    options: SearchOptions
    exclude_ids: Sequence[str | None] | None
    space_id: str | None
    cancelled: Callable[[], bool]


class Searcher:
    """Searches collections; safe to share among threads.

    Args:
        policy: How.
        load: Makes the first view of a collection; None for views without an index.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        policy: SearchPolicy,
        load: Callable[[Collection, Fragments], View] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy
        self.workers = Workers(policy.threads)
        self.views = Views(load or (lambda _, now: flat_view(now)), policy.refresh_s, policy.max_bytes, clock)
        self._selector = Selector()
        self._lock = threading.Lock()
        self._gatherers: dict[str, Gatherer] = {}

    def search(
        self,
        collection: Collection,
        queries: NDArray[np.float32],
        options: SearchOptions,
        exclude_ids: Sequence[str | None] | None = None,
        version: int | None = None,
        space_id: str | None = None,
        *,
        cancelled: Callable[[], bool] = never,
    ) -> SearchOutcome:
        """The nearest rows of each query.

        Args:
            collection: Where to search; its rows of status ``ok``.
            queries: Finite float32 (Q, dim), of the collection's space.
            options: How.
            exclude_ids: For each query an id that is no hit of it, or None: a row is not its own
                neighbour.
            version: An older version of the collection, instead of the latest.
            space_id: The space of the queries; None where they are known to be of the collection's.
            cancelled: Whether nobody waits for the answer any more; asked before every step.

        Raises:
            Cancelled: ``cancelled`` said so.
            SpaceMismatch: The queries are of another space.
            InvalidArgument: Queries, a condition, a column, ``exclude_ids`` or a version that can't be used,
                also one before ``min_version``.
            FailedPrecondition: ``min_version`` was never written.
            CollectionNotFound: The collection was dropped.
        """
        check_wanted(cancelled)
        asked = _Asked(queries, options, exclude_ids, space_id, cancelled)
        if version is not None:
            if options.min_version > version:
                raise InvalidArgument(
                    f"version {version} of collection {collection.name!r} is searched, and min_version is "
                    f"{options.min_version}; leave one of them out"
                )
            return self._in(collection, self.views.at(collection, version), asked)
        view = self.views.fresh(collection, options.min_version)
        try:
            return self._in(collection, view, asked)
        except (InvalidArgument, SpaceMismatch, StorageError):
            # The version may have been removed since its view was made, and a filter reads the store again;
            # or within the refresh interval another collection took the name.
            latest = self.views.latest(collection, options.min_version)
            if latest is view:
                raise
            return self._in(collection, latest, asked)

    def forget(self, collection: Collection) -> None:
        """Lets go of what is in memory of the collection; its next search reads it anew.

        Waits for who is reading it. A search that is under way keeps what it has until it ends.
        """
        known = self.views.known(collection)
        self.views.forget(collection)
        if known is not None:
            self._selector.forget(known.uid)

    def close(self) -> None:
        """Ends the threads."""
        self.workers.close()

    def _in(
        self,
        collection: Collection,
        view: View,
        asked: _Asked,
    ) -> SearchOutcome:
        queries, options, exclude_ids, space_id, cancelled = asked
        check_query_space(collection.name, view.spec, space_id)
        check_queries(collection.name, queries, view.spec.dim, exclude_ids)
        allowed = self._selector.masks(collection, view, options.where, options.parameters)
        unit = prepared(queries, view.spec.metric)
        gatherer = self._gatherer(collection)
        exact_rows = None if options.exact else self.policy.flat_rows

        def search_in(k: int, which: NDArray[np.int64], rows: tuple[Mask, ...] | None) -> Answer:
            some = unit if len(which) == len(unit) else unit[which]
            return gatherer.ask(Ask(view, some, k, rows, exact_rows), cancelled=cancelled)

        def search(k: int, which: NDArray[np.int64]) -> Answer:
            return search_in(k, which, allowed)

        excluded = exclude_ids if exclude_ids is not None and any(exclude_ids) else None
        hits: list[list[Hit]]
        if not len(view) or not len(queries):
            hits, exact = [[] for _ in queries], True
        elif _is_plain(options) and excluded is None:
            answer = search(min(options.k, len(view)), np.arange(len(queries)))
            hits, exact = plain_hits(view, answer), answer.exact
        else:
            groups = self._groups(collection, view, options.group_by)
            finder = Finder(view, options, search, groups, allowed, search_in)
            found, exact = finder.find(excluded or [None] * len(queries), cancelled=cancelled)
            hits = shaped_hits(view, found)
        return SearchOutcome(
            view.spec.space_id,
            view.version,
            view.spec.metric,
            hits,
            how(view, options.k, exact=exact),
            view.uid,
        )

    def _groups(self, collection: Collection, view: View, column: str | None) -> Groups | None:
        if column is None:
            return None
        if column == "label":
            return LabelGroups(view)
        stored = collection.fragments(view.version)
        check_same(view, collection.name, stored.uid)
        return ColumnGroups(view, *stored.column(column))

    def _gatherer(self, collection: Collection) -> Gatherer:
        with self._lock:
            return self._gatherers.setdefault(collection.key, Gatherer(self.workers))


def how(view: View, k: int, *, exact: bool) -> Searched:
    """What a reply of k neighbours says of the view that answered."""
    indexed = view.indexed
    if indexed is None or indexed.segment.approximate is None or view.card is None:
        return Searched("flat", exact, view.version)
    level = indexed.segment.level_of(k)
    recall = None if level is None else level.recall
    if level is not None and level == indexed.segment.levels[0]:
        # It may have been measured again since.
        recall = view.recall
    # What was measured of the index says nothing of an answer that compared all.
    return Searched(indexed.segment.approximate.kind, exact, view.card.version, None if exact else recall)


def check_queries(
    collection: str,
    queries: NDArray[np.float32],
    dim: int,
    exclude_ids: Sequence[str | None] | None = None,
) -> None:
    """Does nothing for queries that can be searched.

    Raises:
        InvalidArgument: Another type or shape, NaN or infinity, or not an id for each query.
    """
    if queries.dtype != np.float32 or queries.ndim != 2:
        raise InvalidArgument(
            f"queries are float32 of shape (Q, {dim}) in collection {collection!r}; got {queries.dtype} {queries.shape}"
        )
    if queries.shape[1] != dim:
        raise InvalidArgument(
            f"the query vectors have {queries.shape[1]} floats, those of collection {collection!r} have {dim}"
        )
    bad = np.flatnonzero(~np.isfinite(queries).all(axis=1))
    if len(bad):
        raise InvalidArgument(f"query {bad[0]} holds NaN or infinity; send finite floats")
    if exclude_ids is not None and len(exclude_ids) != len(queries):
        raise InvalidArgument(
            f"exclude_ids has {len(exclude_ids)} entries for {len(queries)} queries; give each an id or None"
        )


def check_query_space(collection: str, spec: CollectionSpec, space_id: str | None) -> None:
    """Does nothing where the queries are of the collection's space, or nobody says which.

    Raises:
        SpaceMismatch: They are of another one.
    """
    if space_id is not None and meant_space(spec, space_id) != spec.space_id:
        raise SpaceMismatch(
            f"the query vectors are of space {space_id or '(not stated)'}; collection {collection!r} "
            f"holds space {spec.space_id} ({spec.model}): embed the queries with that model"
        )


def _is_plain(options: SearchOptions) -> bool:
    return options.group_by is None and options.collapse is None and options.min_score is None
