"""The first view of a collection: of its newest index that can be trusted, or of all rows."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.errors import IndexDamaged, InvalidArgument, StorageError
from trunkline_service.index.card import IndexCard
from trunkline_service.index.following import flat_view
from trunkline_service.index.segment import Part, Segment, whole
from trunkline_service.index.storage.base import Base, load_base
from trunkline_service.index.storage.store import IndexStore
from trunkline_service.index.view import View

_log = logging.getLogger(__name__)
_ATTEMPTS = 3


class Loader:
    """Makes views of what is stored; safe to share among threads.

    An index that is damaged, or that can't be read, or that may be of another history of the collection is
    never used: all rows are compared, which is always right.

    Args:
        store: The indexes.
    """

    def __init__(self, store: IndexStore) -> None:
        self._store = store
        self._refused: set[str] = set()

    def load(self, collection: Collection, now: Fragments) -> View:
        """A view of the index's version, or of ``now``.

        Raises:
            StorageError: The collection can't be read.
        """
        for _ in range(_ATTEMPTS):
            card = self.newest(collection, now)
            if card is None:
                break
            if not card.files:
                return replace(flat_view(now), card=card)
            try:
                base = load_base(self._store.open(card), card)
            except StorageError as exc:
                if self._is_newest(collection, now, card):
                    self._refuse(card, exc.message, for_ever=isinstance(exc, IndexDamaged))
                    break
                # A newer build took its place, and it was swept away meanwhile.
                continue
            if _is_of_this_history(collection, now, base):
                return view_of(base, now)
            self._refuse(
                card,
                f"index {card.build} of collection {collection.name!r} can't be told to be of this history of it: "
                f"version {card.version} is gone, or another one, as after a backup was put back; build it again",
            )
            break
        return flat_view(now)

    def newest(self, collection: Collection, now: Fragments) -> IndexCard | None:
        """The card of the newest build of this collection, of no later version, that was not refused."""
        try:
            card = self._store.newest(collection.name, now.uid, now.spec, at_most=now.version)
        except StorageError as exc:
            _log.warning("%s; every row of %r is compared", exc.message, collection.name)
            return None
        return None if card is None or card.build in self._refused else card

    def _is_newest(self, collection: Collection, now: Fragments, card: IndexCard) -> bool:
        newest = self.newest(collection, now)
        return newest is None or newest.build == card.build

    def _refuse(self, card: IndexCard, why: str, *, for_ever: bool = True) -> None:
        if for_ever:
            self._refused.add(card.build)
        _log.warning("%s; until then every row is compared", why)


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


def _is_of_this_history(collection: Collection, now: Fragments, base: Base) -> bool:
    """Whether the version that the index was built from is one of this collection's own.

    A collection that was put back from a backup counts its versions on from there, so that a number, and a
    row's pair of id and writing version, may stand for other content than the index knows. Lance names
    fragments at random.
    """
    if now.version == base.card.version:
        return now.keys == base.fragments
    try:
        then = collection.fragments(base.card.version)
    except InvalidArgument:
        return bool(set(now.keys) & set(base.fragments))
    return then.keys == base.fragments
