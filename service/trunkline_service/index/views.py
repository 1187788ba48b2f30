"""The latest view of each collection that is searched, kept in memory."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.errors import FailedPrecondition, StorageError
from trunkline_service.index.card import Recall
from trunkline_service.index.following import flat_view, follow
from trunkline_service.index.history import certain, is_known
from trunkline_service.index.view import View

_ATTEMPTS = 3
# Older versions of a collection that are kept.
_PAST = 4
# How long a version of the same number is taken for the same, in seconds.
_COMPARED_S = 1.0
# Collections that are read before the largest goes, which nobody asked for meanwhile.
_SPARED = 8


@dataclass(eq=False)
class _Entry:
    """A collection's view, replaced as a whole.

    Attributes:
        lock: Held by who makes a newer view.
        view: The newest one; None before the first.
        checked: When the store last said that it is the newest, by the clock.
        compared: When its fragments were last compared with those of the store's version of its number.
        spared: How often it was kept, as the largest, since it was asked for.
        past: Older versions, by their number; they share with the newest what is the same in both.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    view: View | None = None
    checked: float = 0.0
    compared: float = -math.inf
    spared: int = 0
    past: OrderedDict[int, View] = field(default_factory=OrderedDict)

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept, shared segments once."""
        views = [*self.past.values(), *([] if self.view is None else [self.view])]
        segments = {id(part.segment): part.segment for view in views for part in view.parts}
        return sum(segment.nbytes for segment in segments.values())


class Views:
    """Views that are as fresh as the callers ask for; safe to share among threads.

    A search that runs keeps the view that it began with; it is never waited for.

    A backup may be put back meanwhile, and written to. Where the store was asked it is noticed at once; where its
    version is by chance of the very number that is known, within a second.

    Args:
        load: Makes the first view of a collection, of these fragments or newer ones.
        refresh_s: How long the store need not be asked again, in seconds; with 0 it is asked every time.
        max_bytes: Of views kept; what is mapped from files is not counted. One that is larger alone is kept
            all the same, and the largest is not let go for a smaller one unless that was asked for long ago.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        load: Callable[[Collection, Fragments], View],
        refresh_s: float,
        max_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self._load = load
        self._refresh_s = refresh_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def fresh(self, collection: Collection, min_version: int = 0) -> View:
        """The collection's latest version, or one that was the latest within ``refresh_s``.

        Args:
            collection: To be searched.
            min_version: The view is of this version or a later one, of the collection that has the name
                now: above 0 the store is asked which that is, whatever ``refresh_s``.

        Raises:
            FailedPrecondition: There is no such version yet.
            CollectionNotFound: It was dropped.
            StorageError: It can't be read.
        """
        entry = self._entry(collection)
        # Looked at before the view: who makes a newer one puts it there first.
        recent = self._is_recent(entry)
        view = entry.view
        # A version's number says something of one collection only, and another may have its name by now.
        if (
            recent
            and view is not None
            and view.version >= min_version
            and (not min_version or collection.revision.uid == view.uid)
        ):
            return view
        return self.latest(collection, min_version)

    def latest(self, collection: Collection, min_version: int = 0) -> View:
        """As `fresh`, and the store is asked, whatever the refresh interval."""
        entry = self._entry(collection)
        asked, before = self._clock(), entry.view
        now = collection.fragments()
        if now.version < min_version:
            raise FailedPrecondition(
                f"collection {collection.name!r} is at version {now.version}; min_version {min_version} was "
                "never written to it, or to another collection of this name"
            )
        if before is not None and self._is_gone(entry, before, now):
            self._let_go(entry, before)
        if (view := _newer(entry.view, now)) is None:
            with entry.lock:
                if (view := _newer(entry.view, now)) is None:
                    view = self._made(collection, entry, entry.view, now)
                    entry.view = view
            self._make_room(collection.key)
        entry.checked = max(entry.checked, asked)
        return view

    def at(self, collection: Collection, version: int) -> View:
        """An older version, put together from what the latest view knows of it.

        Raises:
            InvalidArgument: There is no such version (any more).
            CollectionNotFound, StorageError: As `fresh`.
        """
        latest = self.fresh(collection)
        if version == latest.version:
            return latest
        entry = self._entry(collection)
        with self._lock:
            known = entry.past.get(version)
            if known is not None and known.uid == latest.uid:
                entry.past.move_to_end(version)
                return known
        now = collection.fragments(version)
        same = now.uid == latest.uid
        view = follow(certain(collection, latest, now), now) if same else flat_view(now)
        with self._lock:
            # Where the collection was forgotten meanwhile, nobody looks into this entry any more.
            entry.past[version] = view
            while len(entry.past) > _PAST:
                entry.past.popitem(last=False)
        self._make_room(collection.key)
        return view

    def known(self, collection: Collection) -> View | None:
        """The view as it is in memory, whatever its age."""
        with self._lock:
            entry = self._entries.get(collection.key)
        return None if entry is None else entry.view

    def replace(self, collection: Collection, make: Callable[[View | None], View]) -> View:
        """Puts another view in the place of the one there is, once it has followed the collection.

        Searches go on with the old view meanwhile; those that need a newer version than it wait.

        Args:
            collection: Whose.
            make: Gives a view of any version of this collection.
        """
        entry = self._entry(collection)
        made = self._followed(collection, entry, make(entry.view))
        with entry.lock:
            made = self._followed(collection, entry, made)
            entry.view = made
        self._make_room(collection.key)
        return made

    def note_recall(self, collection: Collection, view: View, recall: Recall) -> None:
        """Notes what was measured of a view, where the same index still serves."""
        with self._lock:
            entry = self._entries.get(collection.key)
        if entry is None:
            return
        with entry.lock:
            now = entry.view
            if now is not None and now.uid == view.uid and now.card == view.card:
                entry.view = dataclasses.replace(now, recall=recall)

    def forget(self, collection: Collection) -> None:
        """Lets go of the collection's view; the next search reads it anew.

        Waits for who is making one, which may have read what is to be forgotten.
        """
        entry = self._entry(collection)
        with entry.lock, self._lock:
            entry.view = None
            self._entries.pop(collection.key, None)

    def _is_recent(self, entry: _Entry) -> bool:
        return bool(self._refresh_s) and self._clock() - entry.checked < self._refresh_s

    def _is_gone(self, entry: _Entry, view: View, now: Fragments) -> bool:
        """Whether a backup was put back: the store, asked since the view was made, is at another history."""
        if view.uid != now.uid or view.version < now.version:
            return False
        if view.version > now.version:
            # Versions only grow.
            return True
        moment = self._clock()
        if moment - entry.compared < _COMPARED_S:
            # To list thousands of fragments takes longer than to search some thousand rows.
            return False
        entry.compared = moment
        return view.keys != now.keys

    def _let_go(self, entry: _Entry, view: View) -> None:
        """Forgets a view and the older ones beside it, unless somebody put another in its place."""
        with entry.lock, self._lock:
            if entry.view is view:
                entry.view = None
                entry.past.clear()

    def _made(self, collection: Collection, entry: _Entry, view: View | None, now: Fragments) -> View:
        """The view of a version, or of a later one where that version is removed meanwhile."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._at(collection, entry, view, now)
            except StorageError:
                now = collection.fragments()
        return self._at(collection, entry, view, now)

    def _at(self, collection: Collection, entry: _Entry, view: View | None, now: Fragments) -> View:
        if view is not None and view.uid == now.uid:
            if entry.past and not is_known(collection, view, now):
                # The older versions that are known may be of another history.
                with self._lock:
                    entry.past.clear()
            return follow(certain(collection, view, now), now)
        made = self._load(collection, now)
        # An index may be of a later version than was asked for.
        return made if made.version >= now.version else follow(made, now)

    def _followed(self, collection: Collection, entry: _Entry, view: View) -> View:
        now = collection.fragments()
        if now.uid == view.uid and now.version <= view.version:
            return view
        return self._made(collection, entry, view, now)

    def _entry(self, collection: Collection) -> _Entry:
        with self._lock:
            entry = self._entries.setdefault(collection.key, _Entry())
            self._entries.move_to_end(collection.key)
            entry.spared = 0
            return entry

    def _make_room(self, kept_key: str) -> None:
        with self._lock:
            sizes = {key: entry.nbytes for key, entry in self._entries.items() if entry.view is not None}
            total = sum(sizes.values())
            largest = max(sizes, key=lambda key: sizes[key], default=kept_key)
            for key, size in list(sizes.items()):
                if total <= self._max_bytes:
                    return
                if key == kept_key or (key == largest and self._is_spared(key, size, sizes.get(kept_key, 0))):
                    continue
                del self._entries[key]
                total -= size

    def _is_spared(self, key: str, size: int, newcomer: int) -> bool:
        """Whether the largest stays: read anew for each search between two of a small one, it costs most."""
        entry = self._entries[key]
        if size <= newcomer or entry.spared == _SPARED:
            return False
        entry.spared += 1
        return True


def _newer(view: View | None, now: Fragments) -> View | None:
    """The view, where it is of this version or a later one."""
    if view is not None and view.uid == now.uid and view.version >= now.version:
        return view
    return None
