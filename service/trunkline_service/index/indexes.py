"""Collections searched by what was built of them, or by comparing all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.errors import CollectionNotFound
from trunkline_service.index import recall
from trunkline_service.index.building import builder
from trunkline_service.index.card import IndexCard, Recall
from trunkline_service.index.following import flat_view
from trunkline_service.index.lance.served import LanceIndexes
from trunkline_service.index.loading import Loader
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.outcome import SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import Searcher, SearchPolicy, check_query_space
from trunkline_service.index.state import IndexState
from trunkline_service.index.storage.store import IndexStore
from trunkline_service.index.upkeep import is_due, is_stale, wear_of
from trunkline_service.index.view import View
from trunkline_service.index.wishes import Wishes

_log = logging.getLogger(__name__)
_QUERIES = 1000

Progress = Callable[[str, float], None]


def unheard(_phase: str, _done: float) -> None:
    """Progress that nobody asked for."""


def never() -> bool:
    """Nobody calls it off."""
    return False


class Indexes:
    """Searches, and the indexes that they use; safe to share among threads.

    Args:
        data: The data folder, or the URI of an object store.
        cache: Where indexes of an object store are kept on this machine; None for the user's cache.
        policy: How searches are answered.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        data: str | Path,
        cache: Path | None,
        policy: SearchPolicy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy
        self._store = IndexStore(data, cache)
        self._clock = clock
        self._wishes = Wishes(self._store, clock)
        self._loader = Loader(self._store)
        self._searcher = Searcher(policy, self._load, clock)
        self._lance = LanceIndexes(self._store, self._searcher.workers, clock)
        self._lock = threading.Lock()
        self._searched: dict[str, Collection] = {}

    # Searching -----------------------------------------------------------------------------------------

    def search(
        self,
        collection: Collection,
        queries: NDArray[np.float32],
        options: SearchOptions,
        exclude_ids: Sequence[str | None] | None = None,
        version: int | None = None,
        space_id: str | None = None,
    ) -> SearchOutcome:
        """See `Searcher.search`."""
        try:
            kind = self.options(collection).kind
            if kind == "lance":
                check_query_space(collection.name, collection.spec, space_id)
                outcome = self._lance.search(collection, queries, options, exclude_ids, version)
            else:
                # There may be an index of an earlier wish.
                asked = replace(options, exact=True) if kind == "flat" else options
                outcome = self._searcher.search(collection, queries, asked, exclude_ids, version, space_id)
        except CollectionNotFound:
            self._forget(collection)
            raise
        with self._lock:
            self._searched[collection.key] = collection
        return outcome

    def searched(self) -> list[Collection]:
        """The collections that were searched since the start, and are still there as far as is known."""
        with self._lock:
            return list(self._searched.values())

    # Wishes and state ----------------------------------------------------------------------------------

    def options(self, collection: Collection) -> IndexOptions:
        """What is wished of the index; see `Wishes.of`."""
        return self._wishes.of(collection)

    def set_options(self, collection: Collection, options: IndexOptions) -> None:
        """Notes what is wished of the index."""
        self._wishes.set(collection, options)

    def state(self, collection: Collection) -> IndexState:
        """How the collection is searched."""
        options = self.options(collection)
        if options.kind == "lance":
            return self._lance.state(collection, options)
        view = self._searcher.views.fresh(collection)
        wear = wear_of(view)
        indexed = None if options.kind == "flat" else view.indexed
        structure = None if indexed is None else indexed.segment.approximate
        return IndexState(
            collection=collection.name,
            version=view.version,
            kind="flat" if structure is None else structure.kind,
            options=options,
            rows=wear.rows,
            delta_rows=wear.delta if structure is not None else 0,
            deleted_rows=wear.dead,
            card=view.card,
            recall=view.recall if structure is not None else None,
            building=self._store.building(collection.name, view.uid),
            note=_note(view, options, self.policy.flat_rows),
        )

    def measure(
        self,
        collection: Collection,
        k: int,
        queries: int = _QUERIES,
        cancelled: Callable[[], bool] = never,
    ) -> Recall:
        """Measures recall@k now, over rows of the collection; see `recall.measure`.

        Raises:
            NotEnoughData: Fewer than two rows.
            Cancelled: ``cancelled`` said so.
        """
        if self.options(collection).kind == "lance":
            return self._lance.measure(collection, k, queries)
        return self._measured(self._searcher.views.fresh(collection), k, queries, cancelled)

    # Building ------------------------------------------------------------------------------------------

    def build(self, collection: Collection, progress: Progress, cancelled: Callable[[], bool]) -> IndexCard:
        """Builds an index aside and swaps it in.

        Raises:
            FailedPrecondition: Somebody else builds one.
            Cancelled: ``cancelled`` said so.
        """
        options = self.options(collection)
        _log.info("index of %s: building %s", collection.name, options.kind)
        if options.kind == "lance":
            card = self._lance.build(collection, options, progress, cancelled)
        else:
            card = builder.build(
                collection,
                self._store,
                options,
                flat_rows=self.policy.flat_rows,
                threads=self.policy.threads,
                clock=self._clock,
                progress=progress,
                cancelled=cancelled,
            )
            self.adopt(collection)
            # Of an earlier wish; this one serves now.
            self._lance.drop(collection)
        _log.info(
            "index of %s: %s of version %s after %.1f s; %s",
            collection.name,
            card.kind,
            card.version,
            card.seconds,
            card.reason,
        )
        return card

    def adopt(self, collection: Collection) -> bool:
        """Takes over the newest index that anybody built, if it is not this one already; says whether it did."""
        known = self._searcher.views.known(collection)
        if known is None:
            return False
        now = collection.fragments()
        card = self._loader.newest(collection, now) if self.options(collection).kind != "flat" else None
        if now.uid == known.uid and _build(card) == _build(known.card):
            return False
        self._searcher.views.replace(collection, lambda _: self._load(collection, now))
        _log.info("index of %s: %s serves now", collection.name, "none" if card is None else card.build)
        return True

    def keep_up(self, collection: Collection, cancelled: Callable[[], bool], build: bool = True) -> None:
        """Does what is due: takes over a newer index, builds one, measures it again.

        Args:
            collection: That is searched.
            cancelled: Asked now and then.
            build: Whether to build; else what others build is taken over.

        Raises:
            CollectionNotFound: It was dropped; what is in memory of it is let go.
        """
        try:
            self._keep_up(collection, cancelled, build)
        except CollectionNotFound:
            self._forget(collection)
            raise

    def drop(self, collection: Collection) -> None:
        """Deletes the collection's builds and wishes; search compares all rows.

        Where ``auto`` would build an index, a server builds another one: wish for ``flat`` to do without.
        """
        self._lance.drop(collection)
        self._store.drop(collection.name)
        self._forget(collection)
        _log.info("index of %s: dropped", collection.name)

    def purge(self, collection: Collection) -> None:
        """Deletes the builds, which hold rows that are purged, and what is in memory; keeps the wishes."""
        self._store.drop(collection.name, collection.revision.uid)
        self._searcher.forget(collection)

    def forget_dropped(self, name: str, collection: Collection) -> None:
        """Deletes all builds of a name whose collection was dropped, and what is in memory of it.

        Raises:
            StorageError: Something is left; drop it again.
        """
        self._forget(collection)
        self._store.drop(name)

    def close(self) -> None:
        """Ends the threads."""
        self._searcher.close()

    def _keep_up(self, collection: Collection, cancelled: Callable[[], bool], build: bool) -> None:
        options = self.options(collection)
        if options.kind == "lance":
            self._lance.refresh(collection)
            if build and self._lance.is_due(collection):
                self.build(collection, unheard, cancelled)
            return
        self.adopt(collection)
        view = self._searcher.views.known(collection)
        if view is None:
            return
        if build and is_due(view, options, self.policy.flat_rows):
            self.build(collection, unheard, cancelled)
        elif is_stale(view) and view.card is not None:
            measured = self._measured(view, view.card.options.k, _QUERIES, cancelled)
            self._searcher.views.note_recall(collection, view, measured)

    def _measured(self, view: View, k: int, queries: int, cancelled: Callable[[], bool]) -> Recall:
        return recall.measure(
            view,
            k,
            queries,
            exact_rows=self.policy.flat_rows,
            workers=self._searcher.workers,
            cancelled=cancelled,
        )

    def _forget(self, collection: Collection) -> None:
        with self._lock:
            self._searched.pop(collection.key, None)
        self._wishes.forget(collection)
        self._searcher.forget(collection)

    def _load(self, collection: Collection, now: Fragments) -> View:
        if self.options(collection).kind == "flat":
            return flat_view(now)
        return self._loader.load(collection, now)


def _build(card: IndexCard | None) -> str | None:
    return None if card is None else card.build


def _note(view: View, options: IndexOptions, flat_rows: int) -> str:
    if view.card is not None:
        return view.card.reason
    if len(view) <= flat_rows and options.kind in ("auto", "flat"):
        return f"every row is compared, which is fast up to {flat_rows:,} rows"
    if options.kind == "flat":
        return "every row is compared, as it is wished"
    return "every row is compared until an index is built"
