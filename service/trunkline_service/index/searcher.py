"""Searches that see every row committed before they began."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection, Revision
from trunkline_service.collections.convert import as_label
from trunkline_service.collections.matrix import EmbeddingMatrix
from trunkline_service.errors import InvalidArgument, StorageError
from trunkline_service.index.flat import FlatIndex
from trunkline_service.index.outcome import Hit, SearchOutcome

MAX_K = 1000
_GIB = 1024**3


@dataclass(frozen=True)
class _Entry:
    """An index with the texts of its rows; the unscaled vectors are not kept."""

    index: FlatIndex
    texts: EmbeddingMatrix


class Searcher:
    """Searches collections, keeping an index of each in memory; safe to share among threads.

    Every search asks the store for the collection's latest version. Where the index in memory is
    older, it is rebuilt first: by one thread, while others that need it wait for that build.

    Args:
        threads: The most threads that one search uses.
        max_bytes: Vectors kept in memory, of the collections searched last. One collection that is
            larger is kept all the same.
    """

    def __init__(self, threads: int, max_bytes: int = 4 * _GIB) -> None:
        self._threads = threads
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._builders: dict[str, threading.Lock] = {}

    def search(
        self,
        collection: Collection,
        queries: NDArray[np.float32],
        k: int,
        where: str | None = None,
        exclude_ids: Sequence[str | None] | None = None,
    ) -> SearchOutcome:
        """The k nearest rows of each query.

        Args:
            collection: Where to search; its rows of status ``ok``.
            queries: Finite float32 (Q, dim), of the collection's space.
            k: 1..1000.
            where: An SQL condition that hits must meet.
            exclude_ids: For each query an id that is no hit of it, or None: a row is not its own
                neighbour.

        Raises:
            InvalidArgument: k, queries, ``where`` or ``exclude_ids`` that can't be used.
        """
        _check(queries, k, collection.spec.dim, exclude_ids)
        entry = self._entry(collection)
        spec = entry.texts.spec
        allowed = None if where is None else _allowed(entry.texts, collection, where)
        excluded = list(exclude_ids) if exclude_ids is not None else [None] * len(queries)
        # One more than k, to fill the place of an excluded row.
        extra = int(any(row_id is not None for row_id in excluded))
        scores, positions = entry.index.search(queries, k + extra, allowed)
        hits = _hits(entry.texts, scores, positions)
        kept = [
            [hit for hit in row if hit.id != row_id][:k] for row, row_id in zip(hits, excluded, strict=True)
        ]
        return SearchOutcome(spec.space_id, entry.texts.version, spec.metric, kept)

    def forget(self, collection: Collection) -> None:
        """Lets go of the collection's index and texts; its next search reads it anew.

        Waits for a build that is under way, which may have read what is to be forgotten. A search that
        is under way keeps them until it ends.
        """
        with self._builder(collection), self._lock:
            self._entries.pop(collection.key, None)

    def _entry(self, collection: Collection) -> _Entry:
        wanted = collection.revision
        entry = self._cached(collection, wanted)
        if entry is not None:
            return entry
        with self._builder(collection):
            # The thread that built before this one may have read a version that is new enough.
            entry = self._cached(collection, wanted)
            return entry if entry is not None else self._build(collection)

    def _cached(self, collection: Collection, wanted: Revision) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(collection.key)
            if entry is None or entry.texts.uid != wanted.uid or entry.texts.version < wanted.version:
                return None
            self._entries.move_to_end(collection.key)
            return entry

    def _builder(self, collection: Collection) -> threading.Lock:
        with self._lock:
            return self._builders.setdefault(collection.key, threading.Lock())

    def _build(self, collection: Collection) -> _Entry:
        try:
            matrix = collection.matrix()
            # The texts first: a purge that runs meanwhile takes the version away.
            texts = matrix.without_embeddings()
        except StorageError:
            matrix = collection.matrix()
            texts = matrix.without_embeddings()
        entry = _Entry(FlatIndex(matrix, self._threads), texts)
        with self._lock:
            self._entries[collection.key] = entry
            self._entries.move_to_end(collection.key)
            kept = sum(other.index.nbytes for other in self._entries.values())
            while kept > self._max_bytes and len(self._entries) > 1:
                _, oldest = self._entries.popitem(last=False)
                kept -= oldest.index.nbytes
        return entry


def _check(queries: NDArray[np.float32], k: int, dim: int, exclude_ids: Sequence[str | None] | None) -> None:
    if not 1 <= k <= MAX_K:
        raise InvalidArgument(f"k is {k}; it can be 1 to {MAX_K}")
    if queries.dtype != np.float32 or queries.ndim != 2 or queries.shape[1] != dim:
        raise InvalidArgument(
            f"queries are float32 of shape (Q, {dim}) in this collection; got {queries.dtype} {queries.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(queries).all(axis=1))
    if len(bad):
        raise InvalidArgument(f"query {bad[0]} holds NaN or infinity; send finite floats")
    if exclude_ids is not None and len(exclude_ids) != len(queries):
        raise InvalidArgument(
            f"exclude_ids has {len(exclude_ids)} entries for {len(queries)} queries; give each an id or None"
        )


def _allowed(texts: EmbeddingMatrix, collection: Collection, where: str) -> NDArray[np.bool_]:
    allowed = np.isin(texts.row_ids, collection.row_ids(where, version=texts.version))
    return allowed.astype(np.bool_, copy=False)


def _hits(
    texts: EmbeddingMatrix, scores: NDArray[np.float32], positions: NDArray[np.int64]
) -> list[list[Hit]]:
    """Hits by query; positions of -1 are left out."""
    found = positions >= 0
    flat = positions[found]
    ids, labels, sources = (
        column.take(flat).to_pylist() for column in (texts.ids, texts.labels, texts.sources)
    )
    hits = iter(map(Hit, ids, scores[found].tolist(), map(as_label, labels), sources))
    return [[next(hits) for _ in range(count)] for count in found.sum(axis=1).tolist()]
