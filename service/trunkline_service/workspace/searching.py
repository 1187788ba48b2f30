"""Images, vectors or ids -> their neighbours in a collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.engine import Caller
from trunkline_service.batching.request import Timings
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument, SpaceMismatch
from trunkline_service.images.inputs import ImageInput
from trunkline_service.index.searcher import Searcher
from trunkline_service.workspace.answers import Found
from trunkline_service.workspace.embedding import Embedder


class Searching:
    """The part of the workspace that searches; see `Workspace.search`.

    Args:
        store: The collections.
        embedder: Embeds query images.
        searcher: Keeps the indexes.
    """

    def __init__(self, store: CollectionStore, embedder: Embedder, searcher: Searcher) -> None:
        self._store = store
        self._embedder = embedder
        self._searcher = searcher

    def images(
        self, collection: str, images: Sequence[ImageInput], k: int, where: str | None, caller: Caller | None
    ) -> Found:
        """See `Workspace.search`."""
        embedded = self._embedder.embed_for(self._store.open(collection), images, "", caller)
        found = self.of(collection, embedded.vectors, k, where)
        return dataclasses.replace(found, errors=embedded.errors, timings=embedded.timings)

    def vectors(
        self, collection: str, vectors: NDArray[np.float32], space_id: str, k: int, where: str | None
    ) -> Found:
        """See `Workspace.search_vectors`."""
        target = self._store.open(collection)
        self.check_space(collection, space_id)
        return Found(self._searcher.search(target, vectors, k, where), {}, target.spec.space_id, Timings())

    def ids(self, collection: str, ids: Sequence[str], k: int, where: str | None) -> Found:
        """See `Workspace.search_ids`."""
        target = self._store.open(collection)
        rows = target.get(ids)
        vectors = [row.embedding for row in rows if row.embedding is not None]
        if len(vectors) != len(rows):
            failed = next(row for row in rows if row.embedding is None)
            raise InvalidArgument(f"row {failed.id!r} has no embedding ({failed.error}); it can't be a query")
        queries = np.stack(vectors) if vectors else np.empty((0, target.spec.dim), np.float32)
        outcome = self._searcher.search(target, queries, k, where, exclude_ids=list(ids))
        return Found(outcome, {}, target.spec.space_id, Timings())

    def of(self, collection: str, vectors: NDArray[np.float32], k: int, where: str | None = None) -> Found:
        """As `vectors`, of the collection's own space; a row with NaN, of an item that failed, has no hits."""
        target = self._store.open(collection)
        usable = np.flatnonzero(np.isfinite(vectors).all(axis=1)).tolist()
        outcome = self._searcher.search(target, vectors[usable], k, where)
        hits = dict(zip(usable, outcome.hits, strict=True))
        outcome = dataclasses.replace(outcome, hits=[hits.get(index, []) for index in range(len(vectors))])
        return Found(outcome, {}, target.spec.space_id, Timings())

    def check_space(self, collection: str, space_id: str) -> None:
        """Does nothing where a collection holds vectors of this space.

        Raises:
            CollectionNotFound: There is none.
            SpaceMismatch: It holds those of another one.
        """
        spec = self._store.open(collection).spec
        if space_id != spec.space_id:
            raise SpaceMismatch(
                f"the query vectors are of space {space_id or '(not stated)'}; collection {collection!r} "
                f"holds space {spec.space_id} ({spec.model}): embed the queries with that model"
            )
