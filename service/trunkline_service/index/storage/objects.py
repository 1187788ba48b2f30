"""Indexes in an object store, by conditional writes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path

from trunkline_service.errors import StorageError
from trunkline_service.index.card import IndexCard
from trunkline_service.index.storage import object_lease
from trunkline_service.index.storage.bucket import Bucket
from trunkline_service.index.storage.keys import CARD_FILE, LEASE, is_build, is_uid
from trunkline_service.index.storage.lease import Lease, ousted
from trunkline_service.index.storage.object_lease import ObjectLease

_log = logging.getLogger(__name__)


class IndexObjects:
    """Builds below ``<root>/<collection>/<uid>``. A key is ``<collection>/<uid>``, checked before it gets here.

    Args:
        root: A URI.
        clock: The time, with its zone.
        pause: Waits for so many seconds.
    """

    def __init__(self, root: str, clock: Callable[[], datetime], pause: Callable[[float], None]) -> None:
        self._bucket = Bucket(root)
        self._clock = clock
        self._pause = pause
        self._mine: set[str] = set()

    def builds(self, key: str) -> list[str]:
        """Ids of the builds that are whole, unsorted."""
        return [build for build, paths in self._files(key).items() if f"{key}/{build}/{CARD_FILE}" in paths]

    def uids(self, collection: str) -> list[str]:
        """Uids of a collection that something is kept of, unsorted."""
        stems = {path.split("/")[1].partition(".")[0] for path in self._bucket.paths(f"{collection}/")}
        return [stem for stem in stems if is_uid(stem)]

    def read(self, path: str) -> bytes | None:
        """A small object; None where there is none."""
        found = self._bucket.get(path)
        return None if found is None else found.data

    def write(self, path: str, data: bytes) -> None:
        """Puts a small object."""
        self._bucket.put(path, data)

    def upload(
        self, work: Path, key: str, card: IndexCard, lease: Lease | None, going_on: Callable[[], None]
    ) -> None:
        """Puts the files of a build, its card last; of a build that fails nothing is left.

        Args:
            work: The folder of the files.
            key: Of the build.
            card: Of the build.
            lease: That it was made under.
            going_on: Called before each piece; what it raises ends the upload.

        Raises:
            FailedPrecondition: The lease was lost.
        """

        def held() -> None:
            going_on()
            if lease is not None and lease.lost():
                raise ousted(card.collection)

        home = f"{key}/{card.build}"
        try:
            for file in card.files:
                self._bucket.upload(f"{home}/{file.name}", work / file.name, held)
            if lease is not None:
                lease.confirm()
            self._bucket.put(f"{home}/{CARD_FILE}", (work / CARD_FILE).read_bytes())
        except BaseException:
            self._clear(home, card)
            raise

    def download(self, path: str, size: int, target: Path, going_on: Callable[[], None]) -> None:
        """Fetches a file; what is missing or too short gives a file that its check refuses.

        ``going_on`` is called before each piece, and what it raises ends the download.
        """
        found = self._bucket.size(path)
        if found is not None:
            self._bucket.download(path, min(size, found), target, going_on)

    def remove(self, path: str) -> None:
        """Deletes a build, all of a key, or all of a collection: cards first, so that nobody begins to fetch."""
        paths = self._bucket.paths(f"{path}/")
        self._bucket.delete(sorted(paths, key=lambda path: not path.endswith(f"/{CARD_FILE}")))

    def remove_beside(self, path: str) -> None:
        """Deletes a small object, if it is there."""
        self._bucket.delete([path])

    def sweep(self, key: str, gone: Collection[str]) -> None:
        """Removes builds, and files without a card that nobody is putting there now."""
        for build in gone:
            self.remove(f"{key}/{build}")
        if key in self._mine or object_lease.is_free(self._bucket, f"{key}.{LEASE}", self._clock()):
            for build, paths in self._files(key).items():
                if f"{key}/{build}/{CARD_FILE}" not in paths:
                    self._bucket.delete(paths)

    def lease(self, key: str) -> AbstractContextManager[Lease]:
        """The right to build the key's index, see `ObjectLease.hold`."""
        return self._leased(key)

    def building(self, key: str) -> bool:
        """Whether somebody holds the lease."""
        return object_lease.is_held(self._bucket, f"{key}.{LEASE}", self._clock())

    def oust(self, key: str) -> None:
        """Takes the lease from whoever holds it, and waits until that one stores nothing any more."""
        object_lease.oust(self._bucket, f"{key}.{LEASE}", self._clock, self._pause)

    @contextmanager
    def _leased(self, key: str) -> Iterator[Lease]:
        path, collection = f"{key}.{LEASE}", key.partition("/")[0]
        lease = ObjectLease(self._bucket, path, collection, self._clock, self._pause)
        with lease.hold():
            self._mine.add(key)
            try:
                yield lease
            finally:
                self._mine.discard(key)

    def _files(self, key: str) -> dict[str, list[str]]:
        """Paths by build."""
        found: dict[str, list[str]] = {}
        for path in self._bucket.paths(f"{key}/"):
            build = path.removeprefix(f"{key}/").partition("/")[0]
            if is_build(build):
                found.setdefault(build, []).append(path)
        return found

    def _clear(self, home: str, card: IndexCard) -> None:
        names = [CARD_FILE, *(file.name for file in card.files)]
        try:
            self._bucket.delete([f"{home}/{name}" for name in names])
        except StorageError as exc:
            _log.warning("%s; sweeping the indexes later removes what is left of %s", exc, home)
