"""Where built indexes live: ``<data>/indexes/<collection>/<uid>/<build>/{card.json, vectors.f32, ...}``.

A build never changes once it stands. Its card is written last, so that a build is there whole or not at
all. Beside a uid's folder stand ``<uid>.options.json``, what is wished of the index, and ``<uid>.lease``.
An object store has the same keys; its builds are fetched into a folder of this machine, which is laid out
alike.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import (
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    StorageError,
)
from trunkline_service.index.calling_off import never
from trunkline_service.index.card import IndexCard
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage import card_json, files
from trunkline_service.index.storage.cache import IndexCache
from trunkline_service.index.storage.cards import Cards
from trunkline_service.index.storage.folder import IndexFolder
from trunkline_service.index.storage.keys import CARD_FILE, LEASE, key_of, version_of
from trunkline_service.index.storage.lease import Lease, ousted
from trunkline_service.index.storage.objects import IndexObjects
from trunkline_service.names import check_name

_log = logging.getLogger(__name__)
_FOLDER = "indexes"
_SCHEMES = ("s3", "gs", "az")
_OPTIONS = "options.json"


def _now() -> datetime:
    return datetime.now(UTC)


class IndexStore:
    """The built indexes of a workspace; safe to share among threads and processes.

    Names and uids that could lead out of the folder raise ``InvalidArgument``. Every method raises
    ``StorageError`` where the store or the cache can't be read or written.

    Args:
        data: The data folder, or ``s3://``, ``gs://``, ``az://``; credentials come from the environment.
        cache: Where builds of an object store are kept on this machine; None for
            ``~/.cache/trunkline/indexes``. A data folder needs none.
        clock: The time, with its zone.
        pause: Waits for so many seconds.

    Raises:
        InvalidArgument: ``data`` is a URI of another kind.
    """

    def __init__(
        self,
        data: str | Path,
        cache: Path | None = None,
        clock: Callable[[], datetime] = _now,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.clock = clock
        self._remote: IndexObjects | None = None
        text = str(data)
        scheme = urlsplit(text).scheme if "://" in text else ""
        if not scheme or scheme == "file":
            root = Path(urlsplit(text).path if scheme else data).absolute() / _FOLDER
        elif scheme in _SCHEMES:
            uri = f"{text.rstrip('/')}/{_FOLDER}"
            self._remote = IndexObjects(uri, clock, pause)
            # Stores share a cache, and not what is in it.
            root = (cache or Path.home() / ".cache" / "trunkline" / _FOLDER).absolute()
            root /= hashlib.sha256(uri.encode()).hexdigest()[:16]
        else:
            raise InvalidArgument(
                f"data is {text!r}; it can be a local folder, or begin with "
                f"{', '.join(f'{scheme}://' for scheme in _SCHEMES)}"
            )
        self._folder = IndexFolder(root, pause)
        self._cache = None if self._remote is None else IndexCache(self._folder, self._remote)
        self._cards = Cards(self._place.read, _FOLDER)

    @property
    def _place(self) -> IndexFolder | IndexObjects:
        return self._remote or self._folder

    # Builds --------------------------------------------------------------------------------------------

    def scratch(self, collection: str, uid: str) -> AbstractContextManager[Path]:
        """An empty folder for the block, on the file system that `publish` moves files to.

        What a killed process left of it, `sweep` removes; `drop` removes it while it is in use.
        """
        return self._folder.held(key_of(collection, uid))

    def publish(
        self,
        card: IndexCard,
        write: Callable[[Path], None],
        lease: Lease | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> IndexCard:
        """Stores a build, whole or not at all.

        Args:
            card: Without its files.
            write: Writes, or moves, all files into a folder that it is given, but not the card.
            lease: That the build was made under; it is confirmed before the build appears.
            cancelled: Asked while files are read, and before each piece that is sent.

        Returns:
            The card with its files.

        Raises:
            FailedPrecondition: The index was dropped meanwhile, or the lease was lost.
            Cancelled: ``cancelled`` said so; nothing was stored.
        """
        key = key_of(card.collection, card.uid)
        what = f"index {card.build} of collection {card.collection!r} can't be stored"
        with files.disk_errors(what), self._folder.held(key) as work:
            try:
                going_on = _checking(cancelled, f"{what}: it was cancelled; nothing was stored")
                whole = self._written(card, write, work, going_on)
                if self._remote is not None:
                    self._remote.upload(work, key, whole, lease, going_on)
                elif lease is not None:
                    lease.confirm()
                self._folder.place(work, key, card.build)
            except FileNotFoundError as exc:
                if work.exists():
                    raise
                raise ousted(card.collection) from exc
        return whole

    def newest(
        self, collection: str, uid: str, spec: CollectionSpec, at_most: int | None = None
    ) -> IndexCard | None:
        """The card of the build that was made of the latest version, and of those the one made last.

        What can't be read, or is of other vectors than these, is logged and passed over.

        Args:
            collection: Its name.
            uid: Of the collection.
            spec: Of its vectors.
            at_most: Builds of later versions are passed over.
        """
        key = key_of(collection, uid)
        builds = self._place.builds(key)
        if self._cache is not None:
            self._cache.keep_only(collection, {(uid, build) for build in builds})
        return self._cards.newest(key, builds, spec, at_most)

    def open(self, card: IndexCard, cancelled: Callable[[], bool] = never) -> Path:
        """The folder of a build on this machine, fetched if need be; every file is as its card says.

        Args:
            card: Of the build.
            cancelled: Asked while files are read, and before each piece that is fetched.

        Raises:
            IndexDamaged: A file is missing, of another size or sum; build the index again. Builds that were
                swept away meanwhile are so too: ask for the `newest`.
            StorageError: A file can't be read now, as where too many are open; that says nothing of the index.
            Cancelled: ``cancelled`` said so.
        """
        going_on = _checking(cancelled, f"index {card.build} was not loaded: it was cancelled")
        key = key_of(card.collection, card.uid)
        if self._cache is None:
            folder = self._folder.path(key, card.build)
            files.check(folder, card, going_on)
            return folder
        return self._cache.open(key, card, going_on)

    def remove(self, card: IndexCard) -> None:
        """Deletes one build."""
        path = f"{key_of(card.collection, card.uid)}/{card.build}"
        self._remove(path)

    # What is wished ------------------------------------------------------------------------------------

    def options(self, collection: str, uid: str) -> IndexOptions:
        """What is wished of the index; the defaults where nothing was set.

        Raises:
            IndexDamaged: The file holds no options.
        """
        path = f"{key_of(collection, uid)}.{_OPTIONS}"
        text = self._place.read(path)
        return IndexOptions() if text is None else card_json.loads_options(text, f"{_FOLDER}/{path}")

    def set_options(self, collection: str, uid: str, options: IndexOptions) -> None:
        """Keeps what is wished of the index."""
        path = f"{key_of(collection, uid)}.{_OPTIONS}"
        self._place.write(path, card_json.dumps_options(options).encode())

    # Building, dropping --------------------------------------------------------------------------------

    def lease(self, collection: str, uid: str) -> AbstractContextManager[Lease]:
        """The right to build, for the block.

        On a disk it ends with the process. On an object store it ends a minute after the process.

        Raises:
            FailedPrecondition: Somebody else has it.
        """
        return self._leased(key_of(collection, uid))

    def building(self, collection: str, uid: str) -> bool:
        """Whether somebody has the lease."""
        return self._place.building(key_of(collection, uid))

    def drop(self, collection: str, uid: str | None = None) -> None:
        """Deletes all builds, those being made too; whoever makes one fails.

        After it no file of the store, or of this machine's cache, holds rows of these. Caches of other
        machines lose them when they next ask for the `newest`.

        Args:
            collection: Its name.
            uid: Of the collection, whose options are kept; None for all that ever had the name, with their
                options.

        Raises:
            StorageError: Something is left; drop it again.
        """
        uids = self._uids(check_name(collection, "collection")) if uid is None else [uid]
        for each in uids:
            key = key_of(collection, each)
            self._place.oust(key)
            self._remove(key)
        if uid is None:
            self._place.remove(collection)
            self._folder.remove(collection)

    def sweep(self, collection: str, uid: str, keep: Collection[str], is_now: Callable[[str], bool]) -> None:
        """Removes builds that are not wanted any more, and what killed builders left.

        What others are making now stays, and so do builds of later versions than those that are kept.

        Args:
            collection: Its name.
            uid: Of the collection as it was when the builds were made.
            keep: Ids of builds; where there are none, all go.
            is_now: Whether a uid is that of the collection that has the name now. It is asked of each other
                uid, with the right to build its index in hand; what there is of one that is not is dropped.
        """
        key = key_of(collection, uid)
        latest = max(map(version_of, keep), default=None)
        builds = {*self._place.builds(key), *self._folder.builds(key)}
        gone = [
            build for build in sorted(builds - set(keep)) if latest is None or version_of(build) <= latest
        ]
        self._place.sweep(key, gone)
        if self._remote is not None:
            self._folder.sweep(key, gone)
        # They are listed before it is asked: of a collection that is made anew meanwhile there is nothing here.
        for other in self._uids(collection):
            if other != uid:
                self._sweep_other(collection, other, is_now)

    def forget_cache(self, collection: str, uid: str) -> None:
        """Removes from this machine's cache what it holds of a collection that is gone; a data folder stays.

        Args:
            collection: Its name.
            uid: Of the collection.
        """
        key = key_of(collection, uid)
        if self._cache is not None:
            self._cache.forget(key)

    def sweep_cache(self) -> None:
        """Removes from this machine's cache what the store does not list any more: it holds rows of the dropped.

        For the start of a server. Best effort: what fails is logged, and left to the next start.
        """
        if self._cache is not None:
            self._cache.sweep()

    def _uids(self, collection: str) -> list[str]:
        return sorted({*self._place.uids(collection), *self._folder.uids(collection)})

    @contextmanager
    def _leased(self, key: str) -> Iterator[Lease]:
        with self._place.lease(key) as lease:
            yield lease

    def _sweep_other(self, collection: str, uid: str, is_now: Callable[[str], bool]) -> None:
        key = key_of(collection, uid)
        try:
            with self._leased(key):
                if is_now(uid):
                    return
                self._remove(key)
                for word in (_OPTIONS, LEASE):
                    self._place.remove_beside(f"{key}.{word}")
        except FailedPrecondition as exc:
            if isinstance(exc, StorageError):
                raise
            # Somebody builds it: it is a living one, or its builder finds out that it is not.
            _log.info("%s", exc.message)

    def _remove(self, path: str) -> None:
        self._place.remove(path)
        if self._cache is not None:
            self._cache.forget(path)

    def _written(
        self, card: IndexCard, write: Callable[[Path], None], work: Path, going_on: Callable[[], None]
    ) -> IndexCard:
        write(work)
        whole = replace(card, files=files.measured(work, going_on))
        (work / CARD_FILE).write_text(card_json.dumps(whole), encoding="utf-8")
        files.seal(work / CARD_FILE)
        return whole


def _checking(cancelled: Callable[[], bool], what: str) -> Callable[[], None]:
    def check() -> None:
        if cancelled():
            raise Cancelled(what)

    return check
