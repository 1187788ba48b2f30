"""One builder of an index at a time, of all threads, processes and machines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from trunkline_service.errors import FailedPrecondition, LeaseLost
from trunkline_service.index.storage.held import is_at, try_lock

# Who only looks whether there is a builder holds the lock for a moment.
_TRIES = 5
_PAUSE_S = 0.01


class Lease(Protocol):
    """The right to build, while it lasts."""

    def lost(self) -> bool:
        """Whether it went to nobody or somebody else: the index was dropped, or renewing it failed. Cheap."""
        ...

    def confirm(self) -> None:
        """Makes sure, with the store, that it is held.

        Raises:
            FailedPrecondition: It was lost.
        """
        ...


def taken(collection: str, by: str = "another process") -> FailedPrecondition:
    """The error of who comes second."""
    return FailedPrecondition(
        f"the index of collection {collection!r} is being built by {by} already; wait for it to end"
    )


def ousted(collection: str) -> LeaseLost:
    """The error of who lost the lease."""
    return LeaseLost(
        f"the index of collection {collection!r} was dropped while it was built, or the right to build it ran out; "
        "nothing was stored. Build it again"
    )


class LocalLease:
    """See `Lease`; it ends with the process, however that ends.

    Args:
        collection: For messages.
        path: Of a file that is locked.
        pause: Waits for so many seconds.
    """

    def __init__(self, collection: str, path: Path, pause: Callable[[float], None] = time.sleep) -> None:
        self._collection = collection
        self._path = path
        self._pause = pause

    @contextmanager
    def hold(self) -> Iterator[LocalLease]:
        """Holds it for the block.

        Raises:
            FailedPrecondition: Somebody else does.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            # Not as `with`: what is open and locked must outlive this turn.
            self._handle = self._path.open("ab")
            try:
                # A file that was dropped between the two locks nobody out.
                if try_lock(self._handle) and is_at(self._handle, self._path):
                    yield self
                    return
            finally:
                self._handle.close()
            self._pause(_PAUSE_S)
        raise taken(self._collection)

    def lost(self) -> bool:
        """See `Lease`."""
        return not is_at(self._handle, self._path)

    def confirm(self) -> None:
        """See `Lease`."""
        if self.lost():
            raise ousted(self._collection)


def is_held(path: Path) -> bool:
    """Whether somebody has the lease of this file."""
    with (
        contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError),
        path.open("rb+") as handle,
    ):
        return not try_lock(handle)
    return False
