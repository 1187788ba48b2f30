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
from trunkline_service.errors import CollectionNotFound, StorageError, TrunklineError
from trunkline_service.index import recall
from trunkline_service.index.building import builder
from trunkline_service.index.calling_off import check_wanted, never
from trunkline_service.index.card import IndexCard, Recall
from trunkline_service.index.following import flat_view
from trunkline_service.index.lance.served import LanceIndexes
from trunkline_service.index.loading import Loader
from trunkline_service.index.options import IndexOptions, WishedKind
from trunkline_service.index.outcome import SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import Searcher, SearchPolicy, check_query_space
from trunkline_service.index.state import IndexState
from trunkline_service.index.storage.store import IndexStore
from trunkline_service.index.upkeep import is_due, is_stale, note_of, wear_of
from trunkline_service.index.view import View
from trunkline_service.index.wishes import Wishes

_log = logging.getLogger(__name__)
_QUERIES = 1000

Progress = Callable[[str, float], None]


def unheard(_phase: str, _done: float) -> None:
    """Progress that nobody asked for."""


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
        self._loader = Loader(self._store, clock)
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
        *,
        cancelled: Callable[[], bool] = never,
    ) -> SearchOutcome:
        """See `Searcher.search`."""
        check_wanted(cancelled)
        try:
            kind = self._kind(collection)
            if kind == "lance":
                check_query_space(collection.name, collection.spec, space_id)
                outcome = self._lance.search(
                    collection, queries, options, exclude_ids, version, cancelled=cancelled
                )
            else:
                # There may be an index of an earlier wish.
                asked = replace(options, exact=True) if kind == "flat" else options
                outcome = self._searcher.search(
                    collection, queries, asked, exclude_ids, version, space_id, cancelled=cancelled
                )
        except CollectionNotFound:
            self._forget_gone(collection)
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
        return self._wishes.of(collection, collection.revision.uid)

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
            note=note_of(view, options, self.policy.flat_rows),
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
            return self._lance.measure(collection, k, queries, cancelled)
        return self._measured(self._searcher.views.fresh(collection), k, queries, cancelled)

    # Building ------------------------------------------------------------------------------------------

    def build(self, collection: Collection, progress: Progress, cancelled: Callable[[], bool]) -> IndexCard:
        """Builds an index aside and swaps it in.

        Raises:
            FailedPrecondition: Somebody else builds one.
            Cancelled: ``cancelled`` said so.
        """
        try:
            return self._built(collection, progress, cancelled)
        except TrunklineError as exc:
            _log.info("index of %s: not built: %s", collection.name, exc.message)
            raise

    def adopt(self, collection: Collection, cancelled: Callable[[], bool] = never) -> bool:
        """Takes over the newest index that anybody built, if it is not this one already; says whether it did.

        What serves stays where the newest one can't be read.

        Raises:
            Cancelled: ``cancelled`` said so.
        """
        known = self._searcher.views.known(collection)
        if known is None:
            return False
        now = collection.fragments()
        card = self._loader.newest(collection, now) if self.options(collection).kind != "flat" else None
        if card is None:
            self._loader.forget(collection)
        if now.uid == known.uid and _build(card) == _build(known.card):
            return False
        found = None if card is None else self._loader.indexed(collection, now, cancelled)
        if card is not None and found is None:
            return False
        self._searcher.views.replace(collection, lambda _: flat_view(now) if found is None else found)
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
            self._forget_gone(collection)
            raise

    def drop(self, collection: Collection) -> None:
        """Deletes the collection's builds and wishes; search compares all rows.

        Where ``auto`` would build an index, a server builds another one once the collection is searched: wish
        for ``flat`` to do without.
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

    def sweep_cache(self) -> None:
        """Removes from this machine's cache what the store has no more."""
        self._store.sweep_cache()

    def close(self) -> None:
        """Ends the threads."""
        self._searcher.close()

    def _built(self, collection: Collection, progress: Progress, cancelled: Callable[[], bool]) -> IndexCard:
        options = self.options(collection)
        _log.info("index of %s: building %s", collection.name, options.kind)
        if options.kind == "lance":
            card = self._lance.build(collection, options, progress, cancelled)
            self._searcher.forget(collection)
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
        _log.info("index of %s: built %s; %s", collection.name, _made(card), card.reason)
        return card

    def _keep_up(self, collection: Collection, cancelled: Callable[[], bool], build: bool) -> None:
        options = self.options(collection)
        if options.kind == "lance":
            # Of another kind, before; it would stay in memory.
            self._searcher.forget(collection)
            self._lance.refresh(collection)
            if build and self._lance.is_due(collection):
                self._built(collection, unheard, cancelled)
            return
        self.adopt(collection, cancelled)
        view = self._searcher.views.known(collection)
        if view is None:
            return
        # One that is there, and can't be read for a while, needs no other in its place.
        build = build and not self._loader.is_failing(collection)
        if build and is_due(view, options, self.policy.flat_rows):
            self._built(collection, unheard, cancelled)
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
        self._loader.forget(collection)
        self._searcher.forget(collection)

    def _forget_gone(self, collection: Collection) -> None:
        """Of a collection that was dropped, by whomever: this machine's cache holds rows of it too."""
        uid = self._wishes.uid_of(collection)
        self._forget(collection)
        if uid is None:
            return
        try:
            self._store.forget_cache(collection.name, uid)
        except StorageError as exc:
            _log.warning("%s; what this machine keeps of indexes of %r stays", exc.message, collection.name)

    def _kind(self, collection: Collection) -> WishedKind:
        """Of the index that is wished, as far as is known without asking the store at every search."""
        view = self._searcher.views.known(collection)
        kind = self._wishes.of(collection, None if view is None else view.uid).kind
        # Where the store is asked for the rows anyway: another collection may have taken the name.
        return kind if kind != "lance" else self.options(collection).kind

    def _load(self, collection: Collection, now: Fragments) -> View:
        if self._wishes.of(collection, now.uid).kind == "flat":
            return flat_view(now)
        return self._loader.load(collection, now)


def _made(card: IndexCard) -> str:
    found = "" if card.recall is None else f", recall@{card.recall.k} {card.recall.measured:.4f}"
    return f"{card.kind} of version {card.version}{found}, in {card.seconds:.1f} s"


def _build(card: IndexCard | None) -> str | None:
    return None if card is None else card.build
