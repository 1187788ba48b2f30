"""The first view of a collection: of its newest index that can be trusted, or of all rows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.errors import IndexDamaged, StorageError
from trunkline_service.index.calling_off import never
from trunkline_service.index.card import IndexCard
from trunkline_service.index.following import flat_view
from trunkline_service.index.history import doubted, is_known
from trunkline_service.index.segment import Part, Segment, whole
from trunkline_service.index.storage.base import Base, load_base
from trunkline_service.index.storage.store import IndexStore
from trunkline_service.index.view import View

_log = logging.getLogger(__name__)
_ATTEMPTS = 3
# How long an index that could not be read is left alone, in seconds; twice as long each time.
_PAUSE_S, _LONGEST_S = 10.0, 640.0


@dataclass(frozen=True)
class _Failure:
    """An index that could not be read, for a reason that may pass.

    Attributes:
        build: Of the index.
        pause: How long it is left alone, in seconds.
        until: When that ends, by the clock.
    """

    build: str
    pause: float
    until: float


class Loader:
    """Makes views of what is stored; safe to share among threads.

    An index that is damaged, or that can't be read, or that is of another history of the collection is never
    used: all rows are compared, which is always right. One that can't be read at the moment is tried again after a
    while. Where its version is gone, as after a clean-up, and nothing tells which history it was of, its rows
    are compared with those of the collection, to the last bit.

    Args:
        store: The indexes.
        clock: Monotonic seconds.
    """

    def __init__(self, store: IndexStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._refused: set[str] = set()
        self._failures: dict[str, _Failure] = {}

    def load(self, collection: Collection, now: Fragments) -> View:
        """A view of the index's version, or of ``now``.

        Raises:
            StorageError: The collection can't be read.
        """
        view = self.indexed(collection, now)
        return flat_view(now) if view is None else view

    def indexed(
        self, collection: Collection, now: Fragments, cancelled: Callable[[], bool] = never
    ) -> View | None:
        """A view of the newest index; None where there is none, or none that can be used now.

        Args:
            collection: Whose.
            now: Its latest version.
            cancelled: Asked while files are fetched and read.

        Raises:
            Cancelled: ``cancelled`` said so.
            StorageError: The collection can't be read.
        """
        for _ in range(_ATTEMPTS):
            card = self.newest(collection, now)
            if card is None or self.is_left_alone(collection, card):
                return None
            if not card.files:
                self._failures.pop(collection.key, None)
                return replace(flat_view(now), card=card)
            try:
                base = load_base(self._store.open(card, cancelled), card)
            except StorageError as exc:
                if not self._is_newest(collection, now, card):
                    # A newer build took its place, and it was swept away meanwhile.
                    continue
                if isinstance(exc, IndexDamaged):
                    self._refuse(card, exc.message)
                else:
                    self._leave_alone(collection, card, exc.message)
                return None
            self._failures.pop(collection.key, None)
            return self._of_this_history(collection, view_of(base, now), now, card)
        return None

    def is_failing(self, collection: Collection) -> bool:
        """Whether its newest index could not be read when that was last tried, for a reason that may pass."""
        return collection.key in self._failures

    def is_left_alone(self, collection: Collection, card: IndexCard) -> bool:
        """Whether an index is not to be tried yet: reading it failed a short while ago."""
        failure = self._failures.get(collection.key)
        return failure is not None and failure.build == card.build and self._clock() < failure.until

    def forget(self, collection: Collection) -> None:
        """Forgets what failed."""
        self._failures.pop(collection.key, None)

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

    def _of_this_history(
        self, collection: Collection, view: View, now: Fragments, card: IndexCard
    ) -> View | None:
        known = is_known(collection, view, now)
        if known is not False:
            return view if known else doubted(view, now)
        self._refuse(
            card,
            f"index {card.build} of collection {collection.name!r} is of another history of it: version "
            f"{card.version} is another one now, as after a backup was put back; build it again",
        )
        return None

    def _refuse(self, card: IndexCard, why: str) -> None:
        self._refused.add(card.build)
        _log.warning("%s; until then every row is compared", why)

    def _leave_alone(self, collection: Collection, card: IndexCard, why: str) -> None:
        before = self._failures.get(collection.key)
        again = before is not None and before.build == card.build
        pause = min(_LONGEST_S, 2 * before.pause) if before is not None and again else _PAUSE_S
        self._failures[collection.key] = _Failure(card.build, pause, self._clock() + pause)
        _log.warning("%s; it is tried again in %.0f s, and what served until now does", why, pause)


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
