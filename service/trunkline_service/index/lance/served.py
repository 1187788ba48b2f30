"""Lance's indexes as the rest of the service sees indexes: options in, cards and states out."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.vector_index import FEWEST_ROWS, VectorIndex
from trunkline_service.errors import CollectionNotFound, InvalidArgument, StorageError
from trunkline_service.index.building.presence import is_still
from trunkline_service.index.calling_off import never
from trunkline_service.index.card import IndexCard, Level, Recall
from trunkline_service.index.lance import tuning
from trunkline_service.index.lance.candidates import Effort
from trunkline_service.index.lance.searching import DEFAULT_EFFORT, LanceSearch, Tuned
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.outcome import SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.state import IndexState
from trunkline_service.index.storage.keys import new_build
from trunkline_service.index.storage.store import IndexStore
from trunkline_service.index.upkeep import Wear
from trunkline_service.index.workers import Workers

_log = logging.getLogger(__name__)
_UUID, _REFINE = "lance_index", "refine_factor"


class LanceIndexes:
    """Searches in the store itself; nothing of a collection is kept in memory but what was measured of it.

    Args:
        store: Where the cards are.
        workers: Threads.
        clock: Monotonic seconds.
    """

    def __init__(self, store: IndexStore, workers: Workers, clock: Callable[[], float]) -> None:
        self._store = store
        self._workers = workers
        self._clock = clock
        self._tuned: dict[str, Tuned | None] = {}

    def search(
        self,
        collection: Collection,
        queries: NDArray[np.float32],
        options: SearchOptions,
        exclude_ids: Sequence[str | None] | None,
        version: int | None,
        *,
        cancelled: Callable[[], bool] = never,
    ) -> SearchOutcome:
        """See `Searcher.search`.

        Raises:
            InvalidArgument: An older version, which Lance's index is not of.
        """
        if version is not None:
            raise InvalidArgument(
                f"collection {collection.name!r} is searched by Lance's own index, which finds rows of the latest "
                f"version only, not of version {version}; wish for another kind of index, or search the latest"
            )
        return LanceSearch(collection, self._known(collection), self._workers).search(
            queries, options, exclude_ids, cancelled=cancelled
        )

    def build(
        self,
        collection: Collection,
        options: IndexOptions,
        progress: Callable[[str, float], None],
        cancelled: Callable[[], bool],
    ) -> IndexCard:
        """Makes the index, measures it, and keeps what was measured.

        Raises:
            FailedPrecondition: Somebody else is building it.
            NotEnoughData: Too few rows for Lance's index.
            Cancelled: ``cancelled`` said so.
            CollectionNotFound: It was dropped meanwhile.
        """
        uid = collection.revision.uid
        with self._store.lease(collection.name, uid) as lease:
            made = tuning.build(
                collection,
                options,
                clock=self._clock,
                workers=self._workers,
                progress=progress,
                cancelled=lambda: cancelled() or lease.lost(),
            )
            if not is_still(collection, uid):
                raise CollectionNotFound(
                    f"collection {collection.name!r} was dropped while its index was built; nothing was stored"
                )
            card = self._store.publish(
                self._card(collection, options, made), lambda _: None, lease, cancelled
            )
            self._tuned[uid] = made.tuned
            self._sweep(collection, card)
        return card

    def state(self, collection: Collection, options: IndexOptions) -> IndexState:
        """How the collection is searched."""
        revision, index = collection.revision, collection.vector_index()
        card = self._card_of(collection)
        rows = collection.stored_vectors().count()
        tuned = self._known(collection)
        measured = index is not None and tuned is not None and tuned.uuid == index.uuid
        return IndexState(
            collection=collection.name,
            version=revision.version,
            kind="flat" if index is None else "lance",
            options=options,
            rows=rows,
            delta_rows=0 if index is None else index.unindexed,
            deleted_rows=0,
            card=card if measured else None,
            recall=tuned.recall if tuned is not None and measured else None,
            building=self._store.building(collection.name, revision.uid),
            note=card.reason if card is not None and measured else _note(index),
        )

    def is_due(self, collection: Collection) -> bool:
        """Whether the index should be made now: there is none, it was not measured, or a tenth is not in it.

        A purge makes it anew, and so it is another one than the card is of.
        """
        index = collection.vector_index()
        rows = collection.stored_vectors().count()
        tuned = self._known(collection)
        if index is None or tuned is None or tuned.uuid != index.uuid:
            return rows >= FEWEST_ROWS
        return Wear(rows, index.unindexed, 0).worn

    def measure(
        self, collection: Collection, k: int, queries: int, cancelled: Callable[[], bool] = never
    ) -> Recall:
        """See `tuning.measure`."""
        tuned = self._known(collection) or Tuned("", DEFAULT_EFFORT, None)
        return tuning.measure(collection, tuned, k, queries, self._workers, cancelled)

    def drop(self, collection: Collection) -> None:
        """Drops Lance's index, if there is one."""
        collection.drop_vector_index()
        self._tuned.pop(collection.revision.uid, None)

    def refresh(self, collection: Collection) -> None:
        """Reads anew what others measured."""
        self._tuned[collection.revision.uid] = _tuned_of(self._card_of(collection))

    def _sweep(self, collection: Collection, card: IndexCard) -> None:
        name = card.collection
        try:
            self._store.sweep(
                name, card.uid, keep=[card.build], is_now=lambda other: is_still(collection, other)
            )
        except StorageError as exc:
            _log.warning("%s; index %s of collection %r serves all the same", exc, card.build, name)

    def _known(self, collection: Collection) -> Tuned | None:
        uid = collection.revision.uid
        if uid not in self._tuned:
            self.refresh(collection)
        return self._tuned.get(uid)

    def _card_of(self, collection: Collection) -> IndexCard | None:
        card = self._store.newest(collection.name, collection.revision.uid, collection.spec)
        return card if card is not None and card.kind == "lance" else None

    def _card(self, collection: Collection, options: IndexOptions, made: tuning.LanceBuild) -> IndexCard:
        spec, recall = collection.spec, made.tuned.recall
        effort = made.tuned.effort.nprobes
        return IndexCard(
            build=new_build(made.version),
            collection=collection.name,
            uid=collection.revision.uid,
            space_id=spec.space_id,
            dim=spec.dim,
            metric=spec.metric,
            version=made.version,
            kind="lance",
            rows=made.rows,
            held_out=0,
            parameters=made.parameters,
            effort=effort,
            recall=recall,
            settings=made.settings,
            reason=made.reason,
            options=options,
            seconds=made.seconds,
            nbytes=made.nbytes,
            files=(),
            made_by={
                "trunkline": importlib.metadata.version("trunkline"),
                "lance": importlib.metadata.version("pylance"),
                _UUID: made.tuned.uuid,
            },
            created_at=self._store.clock().isoformat(),
            levels=() if recall is None else (Level(effort, recall),),
        )


def _tuned_of(card: IndexCard | None) -> Tuned | None:
    if card is None or _UUID not in card.made_by:
        return None
    return Tuned(card.made_by[_UUID], Effort(card.effort, card.parameters[_REFINE]), card.recall)


def _note(index: VectorIndex | None) -> str:
    if index is None:
        return "every row is read and compared until Lance's index is built"
    return "Lance's index was not measured; build it to know its recall"
