"""Images, vectors or ids -> their neighbours in a collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.engine import Caller
from trunkline_service.batching.request import Timings
from trunkline_service.collections.collection import Collection
from trunkline_service.collections.filters import bind
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, InvalidArgument
from trunkline_service.images.inputs import ImageInput
from trunkline_service.index.indexes import Indexes
from trunkline_service.index.outcome import SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import check_query_space
from trunkline_service.workspace.answers import Found
from trunkline_service.workspace.embedding import Embedder


class Searching:
    """The part of the workspace that searches; see `SearchWork`.

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
        self, collection: str, images: Sequence[ImageInput], options: SearchOptions, caller: Caller | None
    ) -> Found:
        """See `SearchWork.search`."""
        target, version = self._store.resolve(collection)
        # What is wrong with the question is said before any image is embedded.
        bind(options.where, options.parameters)
        embedded = self._embedder.embed_for(target, images, "", caller)
        found = self._usable(target, embedded.vectors, options, version)
        return dataclasses.replace(found, errors=embedded.errors, timings=embedded.timings)

    def vectors(
        self, collection: str, vectors: NDArray[np.float32], space_id: str, options: SearchOptions
    ) -> Found:
        """See `SearchWork.search_vectors`."""
        target, version = self._store.lookup(collection)
        try:
            outcome = self._indexes.search(target, vectors, options, version=version, space_id=space_id)
        except CollectionNotFound:
            # Says which names there are.
            self._store.resolve(collection)
            raise
        return _found(outcome)

    def ids(self, collection: str, ids: Sequence[str], options: SearchOptions) -> Found:
        """See `SearchWork.search_ids`."""
        target, version = self._store.resolve(collection)
        rows = target.get(ids, version)
        vectors = [row.embedding for row in rows if row.embedding is not None]
        if len(vectors) != len(rows):
            failed = next(row for row in rows if row.embedding is None)
            raise InvalidArgument(f"row {failed.id!r} has no embedding ({failed.error}); it can't be a query")
        queries = np.stack(vectors) if vectors else np.empty((0, target.spec.dim), np.float32)
        return _found(self._indexes.search(target, queries, options, list(ids), version))

    def of(self, collection: str, vectors: NDArray[np.float32], options: SearchOptions) -> Found:
        """As `vectors`, of the collection's own space; a row with NaN, of an item that failed, has no hits."""
        target, version = self._store.resolve(collection)
        return self._usable(target, vectors, options, version)

    def check_space(self, collection: str, space_id: str) -> None:
        """Does nothing where a collection holds vectors of this space.

        Raises:
            CollectionNotFound: There is none.
            SpaceMismatch: It holds those of another one.
        """
        check_query_space(collection, self._store.resolve(collection).collection.spec, space_id)

    def _usable(
        self, target: Collection, vectors: NDArray[np.float32], options: SearchOptions, version: int | None
    ) -> Found:
        usable = np.flatnonzero(np.isfinite(vectors).all(axis=1)).tolist()
        outcome = self._indexes.search(target, vectors[usable], options, version=version)
        hits = dict(zip(usable, outcome.hits, strict=True))
        return _found(
            dataclasses.replace(outcome, hits=[hits.get(index, []) for index in range(len(vectors))])
        )


def _found(outcome: SearchOutcome) -> Found:
    return Found(outcome, {}, outcome.space_id, Timings())
