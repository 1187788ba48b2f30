"""Images, vectors or ids -> their neighbours in a collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.engine import Caller
from trunkline_service.batching.request import Timings
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.columns import check_columns, vectors_by_id
from trunkline_service.collections.filters import bind
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound
from trunkline_service.images.inputs import ImageInput
from trunkline_service.index.calling_off import never
from trunkline_service.index.indexes import Indexes
from trunkline_service.index.outcome import SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import check_query_space
from trunkline_service.workspace.answers import Found
from trunkline_service.workspace.embedding import Embedder
from trunkline_service.workspace.hit_columns import carrying, replaced, searched_rows


class _Asked(NamedTuple):
    """Queries [Q, dim] of one space, and what is asked of them; see `Searcher.search`."""

    queries: NDArray[np.float32]
    space_id: str
    options: SearchOptions
    exclude_ids: Sequence[str] | None = None
    version: int | None = None
    cancelled: Callable[[], bool] = never


class Searching:
    """The part of the workspace that searches; see `SearchWork`.

    The space of the queries goes with them: by the time of the search another collection may have the name.

    Args:
        store: The collections.
        embedder: Embeds query images.
        indexes: Search them.
    """

    def __init__(self, store: CollectionStore, embedder: Embedder, indexes: Indexes) -> None:
        self._store = store
        self._embedder = embedder
        self._indexes = indexes

    def images(
        self,
        collection: str,
        images: Sequence[ImageInput],
        options: SearchOptions,
        caller: Caller | None,
        cancelled: Callable[[], bool] = never,
    ) -> Found:
        """See `SearchWork.search`."""
        target, version = self._store.resolve(collection)
        # What is wrong with the question is said before any image is embedded.
        bind(options.where, options.parameters)
        options.check_metric(target.metric)
        _check_columns(target, options, version)
        embedded = self._embedder.embed_for(target, images, "", caller)
        asked = _Asked(
            embedded.vectors, embedded.card.space_id, options, version=version, cancelled=cancelled
        )
        found = self._usable(target, asked)
        return dataclasses.replace(found, errors=embedded.errors, timings=embedded.timings)

    def vectors(
        self,
        collection: str,
        vectors: NDArray[np.float32],
        space_id: str,
        options: SearchOptions,
        cancelled: Callable[[], bool] = never,
    ) -> Found:
        """See `SearchWork.search_vectors`."""
        target, version = self._store.lookup(collection)
        asked = _Asked(vectors, space_id, options, version=version, cancelled=cancelled)
        try:
            _check_columns(target, options, version)
            return _found(self._outcome(target, asked))
        except CollectionNotFound:
            # Says which names there are.
            self._store.resolve(collection)
            raise

    def ids(
        self,
        collection: str,
        ids: Sequence[str],
        options: SearchOptions,
        cancelled: Callable[[], bool] = never,
    ) -> Found:
        """See `SearchWork.search_ids`."""
        target, version = self._store.resolve(collection)
        stored = target.fragments(version)
        if options.columns:
            check_columns(stored, options.columns)
        queries = vectors_by_id(stored, ids, cancelled)
        asked = _Asked(queries, stored.spec.space_id, options, list(ids), version, cancelled)
        return _found(self._outcome(target, asked))

    def of(
        self, collection: str, vectors: NDArray[np.float32], space_id: str, options: SearchOptions
    ) -> Found:
        """As `vectors`; a row with NaN, of an item that failed, has no hits."""
        target, version = self._store.resolve(collection)
        return self._usable(target, _Asked(vectors, space_id, options, version=version))

    def check_space(self, collection: str, space_id: str) -> None:
        """Does nothing where a collection holds vectors of this space.

        Raises:
            CollectionNotFound: There is none.
            SpaceMismatch: It holds those of another one.
        """
        check_query_space(collection, self._store.resolve(collection).collection.spec, space_id)

    def _usable(self, target: Collection, asked: _Asked) -> Found:
        usable = np.flatnonzero(np.isfinite(asked.queries).all(axis=1)).tolist()
        outcome = self._outcome(target, asked._replace(queries=asked.queries[usable]))
        hits = dict(zip(usable, outcome.hits, strict=True))
        return _found(
            dataclasses.replace(outcome, hits=[hits.get(index, []) for index in range(len(asked.queries))])
        )

    def _outcome(self, target: Collection, asked: _Asked) -> SearchOutcome:
        outcome = self._search(target, asked)
        asked.options.check_metric(outcome.metric)
        if not asked.options.columns:
            return outcome
        stored = searched_rows(target, outcome)
        if stored is None and asked.version is None:
            # The version was removed since, or within the refresh interval another collection took the name.
            latest = dataclasses.replace(asked.options, min_version=max(1, target.version))
            outcome = self._search(target, asked._replace(options=latest))
            stored = searched_rows(target, outcome)
        if stored is None:
            raise replaced(target.name)
        return carrying(outcome, stored, asked.options.columns, asked.cancelled)

    def _search(self, target: Collection, asked: _Asked) -> SearchOutcome:
        return self._indexes.search(
            target,
            asked.queries,
            asked.options,
            asked.exclude_ids,
            asked.version,
            asked.space_id,
            cancelled=asked.cancelled,
        )


def _check_columns(target: Collection, options: SearchOptions, version: int | None) -> None:
    """What is wrong with them is said before anything is spent; see `check_columns`."""
    if options.columns:
        check_columns(target.fragments(version), options.columns)


def _found(outcome: SearchOutcome) -> Found:
    return Found(outcome, {}, outcome.space_id, Timings())
