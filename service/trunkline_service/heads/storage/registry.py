"""Where heads live: ``<data>/heads/<name>/<version>/{head.onnx,card.json}``.

A version never changes once it stands. It appears by one rename of a complete, synced folder, so that
a reader sees all of it or nothing, and a crash or a full disk leaves the versions before it as they were.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from trunkline_service.errors import HeadNotFound, InvalidArgument, ModelFileError, StorageError
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.serving import onnx_head
from trunkline_service.heads.serving.loaded import LoadedHead
from trunkline_service.heads.storage import folder
from trunkline_service.names import check_name, is_name, near, parse_reference, parse_version

HEAD_FILE = "head.onnx"
CARD_FILE = "card.json"


def _now() -> datetime:
    return datetime.now(UTC)


class HeadRegistry:
    """The heads under one data folder; safe to use from many threads and processes.

    Where the data are at a URI, every method raises ``InvalidArgument``: collections may be there, heads
    can't be yet.
    """

    def __init__(
        self,
        data: str | Path,
        *,
        trunkline_version: str = "unknown",
        clock: Callable[[], datetime] = _now,
        max_loaded: int = 64,
    ) -> None:
        """Opens the registry; nothing is created before the first ``save``.

        Args:
            data: The data folder; heads are under its ``heads``.
            trunkline_version: Written into the cards.
            clock: Gives the time, with its zone, for the cards.
            max_loaded: Heads kept loaded; the longest unused one goes first.
        """
        self._data = data
        self._trunkline_version = trunkline_version
        self._clock = clock
        self._max_loaded = max_loaded
        self._loaded: OrderedDict[tuple[str, int], tuple[folder.Stamp, LoadedHead]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def _root(self) -> Path:
        if "://" in str(self._data):
            raise InvalidArgument(
                f"heads are kept in local folders only for now, and the data are at {str(self._data)!r}; "
                "use a local data folder for heads"
            )
        return Path(self._data) / "heads"

    def save(self, fitted: FittedHead, name: str) -> HeadCard:
        """Stores a head as the next version of ``name``, served from then on.

        Savers at the same time get versions of their own.

        Raises:
            InvalidArgument: ``name`` can't name a head.
            StorageError: It can't be written; the versions before it stand as they were.
        """
        home = self._root / check_name(name, "head")
        model = onnx_head.build(fitted.W, fitted.b, fitted.classes, fitted.space_id)
        version = max(self._versions(name), default=0) + 1
        try:
            home.mkdir(parents=True, exist_ok=True)
            # Its name is no version, so readers pass it by.
            work = home / f".saving-{secrets.token_hex(8)}"
            work.mkdir()
            try:
                folder.write(work / HEAD_FILE, model)
                while True:
                    card = self._card_of(fitted, name, version, model)
                    folder.write(work / CARD_FILE, card.dumps().encode())
                    folder.sync_folder(work)
                    if folder.publish(work, home / str(version)):
                        break
                    version += 1
            finally:
                shutil.rmtree(work, ignore_errors=True)
            folder.sync_folder(home)
            folder.sync_folder(self._root)
        except OSError as exc:
            raise StorageError(
                f"head {name!r} can't be saved under {self._root}: {exc.strerror or exc}. Its earlier "
                "versions are untouched; make room or mend the permissions, and save again"
            ) from exc
        return card

    def names(self) -> list[str]:
        """Names of all heads that have a version, sorted."""
        return [name for name in sorted(filter(is_name, folder.entries(self._root))) if self._versions(name)]

    def versions(self, name: str) -> list[int]:
        """The versions of a head, ascending.

        Raises:
            HeadNotFound: No such head.
        """
        versions = self._versions(check_name(name, "head"))
        if not versions:
            raise HeadNotFound(self._unknown(name))
        return list(versions)

    def list(self) -> list[HeadCard]:
        """The card of the newest version of each head, sorted by name.

        Raises:
            ModelFileError: One of the cards is broken, naming it.
        """
        return [self.card(name) for name in self.names()]

    def card(self, ref: str) -> HeadCard:
        """The card of ``name`` (its newest version) or ``name@version``.

        Raises:
            HeadNotFound: No such head or version, with names that come near.
            ModelFileError: A card that is missing, broken, or of another head.
        """
        return self._read_card(*self._resolve(ref))

    def load(self, ref: str) -> LoadedHead:
        """The head ``name`` (its newest version, looked up afresh) or ``name@version``, ready to predict.

        Raises:
            HeadNotFound: No such head or version, with names that come near.
            ModelFileError: A card that is missing, broken, or of another head; a ``head.onnx`` that is
                missing, can't be loaded, or is not the one that the card was written for.
        """
        name, version = self._resolve(ref)
        with self._lock:
            # A version never changes, but a folder that someone removed can come again.
            stamp = folder.stamp(self._folder(name, version) / CARD_FILE)
            known = self._loaded.get((name, version))
            if known is None or known[0] != stamp:
                known = (stamp, self._open(name, version))
                self._loaded[name, version] = known
            self._loaded.move_to_end((name, version))
            while len(self._loaded) > self._max_loaded:
                self._loaded.popitem(last=False)
            return known[1]

    def _open(self, name: str, version: int) -> LoadedHead:
        card = self._read_card(name, version)
        path = self._folder(name, version) / HEAD_FILE
        model = folder.read(path)
        found = hashlib.sha256(model).hexdigest()
        if found != card.head_sha256:
            raise ModelFileError(
                f"{folder.shown(path)} has SHA-256 {found}, its card says {card.head_sha256}: the file was changed or "
                "damaged; restore it, or fit the head again"
            )
        return LoadedHead(card, model)

    def _read_card(self, name: str, version: int) -> HeadCard:
        path = self._folder(name, version) / CARD_FILE
        card = HeadCard.loads(folder.read(path), folder.shown(path))
        if (card.name, card.version) != (name, version):
            raise ModelFileError(
                f"{folder.shown(path)} is the card of {card.ref} in the folder of {name}@{version}; move it back"
            )
        return card

    def _resolve(self, ref: str) -> tuple[str, int]:
        name, version = parse_reference(ref, "head")
        versions = self.versions(name)
        if version is None:
            return name, versions[-1]
        if version not in versions:
            shown = ", ".join(map(str, versions[-10:]))
            raise HeadNotFound(f"head {name!r} has no version {version}; its newest versions are {shown}")
        return name, version

    def _versions(self, name: str) -> tuple[int, ...]:
        found = (parse_version(entry) for entry in folder.entries(self._root / name))
        return tuple(sorted(version for version in found if version is not None))

    def _folder(self, name: str, version: int) -> Path:
        return self._root / name / str(version)

    def _unknown(self, name: str) -> str:
        return f"no head is called {name!r}{near(name, self.names())}; 'trunkline heads fit' makes one"

    def _card_of(self, fitted: FittedHead, name: str, version: int, model: bytes) -> HeadCard:
        return HeadCard(
            name=name,
            version=version,
            kind=fitted.kind,
            space_id=fitted.space_id,
            dim=fitted.dim,
            model=fitted.model,
            classes=fitted.classes,
            collection=fitted.collection,
            collection_version=fitted.collection_version,
            training_hash=fitted.training_hash,
            rows=fitted.rows,
            hyper_parameters=fitted.hyper_parameters,
            temperature=fitted.temperature,
            converged=fitted.converged,
            metrics=fitted.evaluation,
            notes=fitted.notes,
            head_sha256=hashlib.sha256(model).hexdigest(),
            created_at=self._clock().isoformat(timespec="seconds"),
            trunkline_version=self._trunkline_version,
        )
