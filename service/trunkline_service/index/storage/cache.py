"""What a machine keeps of an object store's indexes: fetched once, checked, and forgotten when the store forgets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from trunkline_service.errors import IndexDamaged, StorageError
from trunkline_service.index.card import IndexCard
from trunkline_service.index.storage import files
from trunkline_service.index.storage.folder import IndexFolder
from trunkline_service.index.storage.objects import IndexObjects

_log = logging.getLogger(__name__)
# A start is not kept waiting by more listings of a store than these.
_MOST_SWEPT = 1000


class IndexCache:
    """Builds of an object store in a folder of this machine. A key is ``<collection>/<uid>``, checked before.

    Args:
        folder: Where they are kept.
        objects: Where they come from.
    """

    def __init__(self, folder: IndexFolder, objects: IndexObjects) -> None:
        self._folder = folder
        self._objects = objects

    def open(self, key: str, card: IndexCard, going_on: Callable[[], None]) -> Path:
        """The folder of a build, fetched if need be; see `IndexStore.open`.

        Args:
            key: Of the build.
            card: Of the build.
            going_on: Called before each piece; what it raises ends the work.
        """
        folder = self._folder.path(key, card.build)
        try:
            files.check(folder, card, going_on)
        except IndexDamaged as exc:
            if folder.exists():
                _log.warning("%s; fetching it anew", exc)
                self._folder.remove(f"{key}/{card.build}")
            with files.disk_errors(f"index {card.build} can't be kept on this machine"):
                self._fetch(key, card, going_on)
        return folder

    def forget(self, path: str) -> None:
        """Removes a build, all of a key, or all of a collection."""
        self._folder.remove(path)

    def keep_only(self, collection: str, kept: set[tuple[str, str]]) -> None:
        """Removes all builds of a collection but these uids and builds: others may hold rows that were purged."""
        for uid in self._folder.uids(collection):
            key = f"{collection}/{uid}"
            gone = [build for build in self._folder.builds(key) if (uid, build) not in kept]
            self._folder.sweep(key, gone)

    def sweep(self) -> None:
        """Removes what the store does not list any more; what fails is logged, and left to the next time."""
        for collection in sorted(self._folder.collections())[:_MOST_SWEPT]:
            try:
                self._sweep(collection)
            except StorageError as exc:
                _log.warning("%s; what this machine keeps of indexes of %r stays", exc, collection)

    def _sweep(self, collection: str) -> None:
        there = self._objects.uids(collection)
        kept = {(uid, build) for uid in there for build in self._objects.builds(f"{collection}/{uid}")}
        self.keep_only(collection, kept)
        for uid in set(self._folder.uids(collection)) - set(there):
            self._folder.remove(f"{collection}/{uid}")

    def _fetch(self, key: str, card: IndexCard, going_on: Callable[[], None]) -> None:
        with self._folder.held(key) as work:
            for file in card.files:
                path = f"{key}/{card.build}/{file.name}"
                self._objects.download(path, file.size, work / file.name, going_on)
            files.check(work, card, going_on)
            for file in card.files:
                files.seal(work / file.name)
            self._folder.place(work, key, card.build)
