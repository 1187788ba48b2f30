"""Embeddings of images that come again, and of images that several callers want at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.observer import NullObserver, Observer
from trunkline_service.batching.request import Lane
from trunkline_service.errors import ImageError, TrunklineError

# What CPython 3.11 and NumPy spend on an entry beside the vector's own bytes: the key, the array's head, the
# links of the ordered dictionary.
ENTRY_OVERHEAD_BYTES = 256


class Claimant(Protocol):
    """Who wants the vector of a key. Compared and hashed by identity; claims once.

    Exactly one of ``found`` and ``failed`` ends it, or it leads, or it was forgotten. The calls come from the
    thread that claims or, later, from the one that fills or resigns; never under the cache's lock. None of
    them may raise.
    """

    @property
    def lane(self) -> Lane:
        """Interactive claimants do not wait for what a bulk leader computes."""

    def found(self, vector: NDArray[np.float32]) -> None:
        """The vector is known: [dim] float32, read-only, shared with others."""

    def lead(self) -> bool:
        """Asked to compute the vector, for itself and those that follow: ``fill`` or ``resign`` must come.

        Returns:
            False if it does not want the vector any more and has ended; somebody else is asked then.
        """

    def failed(self, error: TrunklineError) -> None:
        """The leader found that the image can't be used; nobody's attempt would end otherwise."""


# eq=False: claimants and flights are who they are, whatever they hold.
@dataclass(eq=False, slots=True)
class _Flight:
    """A vector being computed: at most one leader a lane, and those who wait for any of them, in order."""

    leaders: dict[Lane, Claimant] = field(default_factory=dict)
    followers: dict[Lane, dict[Claimant, None]] = field(
        default_factory=lambda: {"interactive": {}, "bulk": {}}
    )

    def needs_leader(self, lane: Lane) -> bool:
        """Whether a claimant of this lane has nobody to follow."""
        return "interactive" not in self.leaders if lane == "interactive" else not self.leaders

    def waiting(self) -> Iterator[Claimant]:
        """All followers, interactive ones first."""
        yield from self.followers["interactive"]
        yield from self.followers["bulk"]


class EmbeddingCache:
    """Vectors by key, the least recently used dropped first; equal images at work are computed once.

    The first claimant of an unknown key leads, later ones follow. One leader a key and lane: an interactive
    claimant does not stand behind a bulk leader but leads too, and whoever is first serves everybody.

    Args:
        max_bytes: Of vectors, with ``ENTRY_OVERHEAD_BYTES`` for each entry. 0 keeps nothing, and equal
            images at work are still computed once.
        observer: Told of every claim: ``hit``, ``joined`` or ``miss``.
    """

    def __init__(self, max_bytes: int, observer: Observer | None = None) -> None:
        self._max_bytes = max_bytes
        self._observer: Observer = observer or NullObserver()
        self._lock = threading.Lock()
        self._vectors: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._nbytes = 0
        self._flights: dict[bytes, _Flight] = {}
        self._keys: dict[Claimant, bytes] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept, overhead included."""
        return self._nbytes

    @property
    def entries(self) -> int:
        """Vectors kept."""
        return len(self._vectors)

    @property
    def pending(self) -> int:
        """Claimants that lead or follow."""
        return len(self._keys)

    def claim(self, key: bytes, claimant: Claimant) -> None:
        """Answers a claimant at once, asks it to lead, or lets it wait for a leader."""
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
                leads = False
            else:
                leads = self._enter(key, claimant)
        if vector is not None:
            self._observer.cached("hit")
            claimant.found(vector)
        elif leads:
            self._observer.cached("miss")
            self._ask(claimant)
        else:
            self._observer.cached("joined")

    def fill(self, key: bytes, vector: NDArray[np.float32]) -> None:
        """Keeps a copy of a vector, [dim] float32, and answers everybody who waits for it.

        Whoever leads the key leads it no longer.
        """
        kept = np.array(vector, np.float32)
        kept.setflags(write=False)
        with self._lock:
            self._keep(key, kept)
            flight = self._end(key)
        if flight is not None:
            with ExitStack() as told:
                for follower in flight.waiting():
                    told.callback(follower.found, kept)

    def resign(self, claimant: Claimant, error: TrunklineError | None) -> None:
        """A leader gives up. Nothing happens if it does not lead (any more).

        Args:
            claimant: The leader.
            error: Why. An ``ImageError`` is the followers' too: they brought the same image. After anything
                else (its deadline, a full queue, None) the first follower that still wants the vector leads.
        """
        if not isinstance(error, ImageError):
            self._ask(self._succeed(claimant))
            return
        with self._lock:
            key = self._leading(claimant)
            flight = None if key is None else self._end(key)
        if flight is not None:
            with ExitStack() as told:
                for follower in flight.waiting():
                    told.callback(follower.failed, error)

    def forget(self, claimant: Claimant) -> bool:
        """A follower goes away.

        Returns:
            True if it waited: it will hear nothing, and has to end by itself. False if it was answered or
            leads; a leader that goes away resigns.
        """
        with self._lock:
            key = self._keys.get(claimant)
            if key is None:
                return False
            followers = self._flights[key].followers[claimant.lane]
            if claimant not in followers:
                return False
            del followers[claimant], self._keys[claimant]
            return True

    def _ask(self, claimant: Claimant | None) -> None:
        """Asks one after the other until somebody leads; a loop, as thousands may have gone away."""
        while claimant is not None and not claimant.lead():
            claimant = self._succeed(claimant)

    def _succeed(self, leader: Claimant) -> Claimant | None:
        """Ends a leader; who leads in its place, if somebody has to."""
        with self._lock:
            key = self._leading(leader)
            if key is None:
                return None
            flight = self._flights[key]
            del flight.leaders[leader.lane], self._keys[leader]
            # The first is enough: interactive ones stand in front and need a leader whenever a bulk one does.
            heir = next(flight.waiting(), None)
            if heir is not None and flight.needs_leader(heir.lane):
                del flight.followers[heir.lane][heir]
                flight.leaders[heir.lane] = heir
                return heir
            if not flight.leaders:
                del self._flights[key]
            return None

    def _enter(self, key: bytes, claimant: Claimant) -> bool:
        """Puts a claimant into the flight of its key; whether it leads."""
        flight = self._flights.setdefault(key, _Flight())
        self._keys[claimant] = key
        if flight.needs_leader(claimant.lane):
            flight.leaders[claimant.lane] = claimant
            return True
        flight.followers[claimant.lane][claimant] = None
        return False

    def _leading(self, claimant: Claimant) -> bytes | None:
        key = self._keys.get(claimant)
        if key is None or self._flights[key].leaders.get(claimant.lane) is not claimant:
            return None
        return key

    def _end(self, key: bytes) -> _Flight | None:
        flight = self._flights.pop(key, None)
        if flight is not None:
            for claimant in (*flight.leaders.values(), *flight.waiting()):
                del self._keys[claimant]
        return flight

    def _keep(self, key: bytes, vector: NDArray[np.float32]) -> None:
        size = vector.nbytes + ENTRY_OVERHEAD_BYTES
        if key in self._vectors or size > self._max_bytes:
            return
        while self._nbytes + size > self._max_bytes:
            _, oldest = self._vectors.popitem(last=False)
            self._nbytes -= oldest.nbytes + ENTRY_OVERHEAD_BYTES
        self._vectors[key] = vector
        self._nbytes += size
