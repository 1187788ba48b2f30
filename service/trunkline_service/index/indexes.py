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
from trunkline_service.errors import IndexDamaged
from trunkline_service.index import recall
from trunkline_service.index.building import builder
from trunkline_service.index.card import IndexCard, Recall
from trunkline_service.index.following import flat_view
from trunkline_service.index.lance.served import LanceIndexes
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.outcome import SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import Searcher, SearchPolicy, check_query_space
from trunkline_service.index.segment import Part, Segment, whole
from trunkline_service.index.state import IndexState
from trunkline_service.index.storage.base import Base, load_base
from trunkline_service.index.storage.store import IndexStore
from trunkline_service.index.upkeep import is_due, is_stale, wear_of
from trunkline_service.index.view import View

_log = logging.getLogger(__name__)
_OPTIONS_FOR_S = 10.0
_QUERIES = 1000
_ATTEMPTS = 3


Progress = Callable[[str, float], None]


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
        self._searcher = Searcher(policy, self._load, clock)
        self._lance = LanceIndexes(self._store, self._searcher.workers, clock)
        self._lock = threading.Lock()
        self._options: dict[str, tuple[IndexOptions, float]] = {}
        self._searched: dict[str, Collection] = {}
        self._damaged: set[str] = set()

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
        with self._lock:
            self._searched[collection.key] = collection
        if self.options(collection).kind == "lance":
            check_query_space(collection.name, collection.spec, space_id)
            return self._lance.search(collection, queries, options, exclude_ids, version)
        return self._searcher.search(collection, queries, options, exclude_ids, version, space_id)

    def searched(self) -> list[Collection]:
        """The collections that were searched since the start."""
        with self._lock:
            return list(self._searched.values())

    # Wishes and state ----------------------------------------------------------------------------------

    def options(self, collection: Collection) -> IndexOptions:
        """What is wished of the index; what another process set is known within ten seconds."""
        known = self._options.get(collection.key)
        if known is not None and self._clock() - known[1] < _OPTIONS_FOR_S:
            return known[0]
        found = self._store.options(collection.name, collection.revision.uid)
        self._options[collection.key] = (found, self._clock())
        return found

    def set_options(self, collection: Collection, options: IndexOptions) -> None:
        """Notes what is wished of the index."""
        uid = collection.revision.uid
        self._store.set_options(collection.name, uid, options)
        self._options[collection.key] = (options, self._clock())

    def state(self, collection: Collection) -> IndexState:
        """How the collection is searched."""
        options = self.options(collection)
        if options.kind == "lance":
            return self._lance.state(collection, options)
        view = self._searcher.views.fresh(collection)
        wear = wear_of(view)
        indexed = view.indexed
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

    def measure(self, collection: Collection, k: int, queries: int = _QUERIES) -> Recall:
        """Measures recall@k now, over rows of the collection; see `recall.measure`.

        Raises:
            NotEnoughData: Fewer than two rows.
        """
        if self.options(collection).kind == "lance":
            return self._lance.measure(collection, k, queries)
        view = self._searcher.views.fresh(collection)
        return recall.measure(
            view, k, queries, exact_rows=self.policy.flat_rows, workers=self._searcher.workers
        )

    # Building ------------------------------------------------------------------------------------------

    def build(self, collection: Collection, progress: Progress, cancelled: Callable[[], bool]) -> IndexCard:
        """Builds an index aside and swaps it in.

        Raises:
            FailedPrecondition: Somebody else builds one.
            Cancelled: ``cancelled`` said so.
        """
        if self.options(collection).kind == "lance":
            return self._lance.build(collection, self.options(collection), progress, cancelled)
        card = builder.build(
            collection,
            self._store,
            self.options(collection),
            flat_rows=self.policy.flat_rows,
            threads=self.policy.threads,
            clock=self._clock,
            progress=progress,
            cancelled=cancelled,
        )
        self.adopt(collection)
        return card

    def adopt(self, collection: Collection) -> bool:
        """Takes over the newest index that anybody built, if it is not this one already; says whether it did."""
        known = self._searcher.views.known(collection)
        if known is None:
            return False
        card = self._store.newest(collection.name, known.uid, known.spec)
        if _build(card) == _build(known.card) or (card is not None and card.build in self._damaged):
            return False
        self._searcher.views.replace(collection, lambda _: self._load(collection, collection.fragments()))
        return True

    def keep_up(self, collection: Collection, cancelled: Callable[[], bool]) -> None:
        """Does what is due: takes over a newer index, builds one, measures it again."""
        if self.options(collection).kind == "lance":
            self._lance.refresh(collection)
            if self._lance.is_due(collection):
                self.build(collection, unheard, cancelled)
            return
        self.adopt(collection)
        view = self._searcher.views.known(collection)
        if view is None:
            return
        if is_due(view, self.options(collection), self.policy.flat_rows):
            self.build(collection, unheard, cancelled)
        elif is_stale(view):
            measured = self.measure(collection, view.card.options.k if view.card else 10)
            self._searcher.views.replace(
                collection, lambda now: replace(now if now is not None else view, recall=measured)
            )

    def drop(self, collection: Collection) -> None:
        """Deletes the collection's builds and wishes; search compares all rows again."""
        self._lance.drop(collection)
        self._store.drop(collection.name)
        self._options.pop(collection.key, None)
        self._searcher.forget(collection)

    def purge(self, collection: Collection) -> None:
        """Deletes the builds, which hold rows that are purged, and what is in memory; keeps the wishes."""
        self._store.drop(collection.name, collection.revision.uid)
        self._searcher.forget(collection)

    def close(self) -> None:
        """Ends the threads."""
        self._searcher.close()

    def _load(self, collection: Collection, now: Fragments) -> View:
        """The first view of a collection: of its newest index, or of all rows."""
        for _ in range(_ATTEMPTS):
            card = self._store.newest(collection.name, now.uid, now.spec)
            if card is None or card.build in self._damaged:
                break
            if not card.files:
                return replace(flat_view(now), card=card)
            try:
                return view_of(load_base(self._store.open(card), card), now)
            except IndexDamaged as exc:
                newest = self._store.newest(collection.name, now.uid, now.spec)
                if _build(newest) == card.build:
                    self._damaged.add(card.build)
                    _log.warning("%s; until then every row is compared", exc.message)
                # Else a newer build took its place, and it was swept away meanwhile.
        return flat_view(now)


def unheard(_phase: str, _done: float) -> None:
    """Progress that nobody asked for."""


def view_of(base: Base, now: Fragments) -> View:
    """An index as a view of the version that it was built from.

    Args:
        base: The index.
        now: Any version of its collection.
    """
    held = base.card.rows
    parts = [_part(base, slice(0, held), indexed=True), _part(base, slice(held, None), indexed=False)]
    return View(
        base.card.uid,
        base.card.version,
        now.spec,
        base.fragments,
        tuple(part for part in parts if len(part.segment)),
        base.card,
        np.asarray(base.vectors[held:]),
        base.card.recall,
    )


def _part(base: Base, rows: slice, *, indexed: bool) -> Part:
    segment = Segment(
        base.row_ids[rows],
        base.written[rows],
        base.vectors[rows],
        base.ids[rows],
        base.labels[rows],
        base.sources[rows],
        base.approximate if indexed else None,
        base.card.levels,
    )
    return whole(segment, base.fragment[rows])


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
