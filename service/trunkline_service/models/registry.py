"""Live models: each version is loaded once, on first use or before the server says it is ready."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from trunkline_service.errors import TrunklineError
from trunkline_service.models.card import ModelCard
from trunkline_service.models.repository import ModelFolder, ModelRepository, Stamp
from trunkline_service.models.session import ModelSession
from trunkline_service.names import parse_reference

SessionFactory = Callable[[ModelFolder], ModelSession]

_log = logging.getLogger(__name__)

# For how long the repository is not looked at again: less than a caller could tell from his call's own way.
_LOOK_EVERY_S = 0.02


class Loaded(Protocol):
    """A model that is warm."""

    @property
    def card(self) -> ModelCard:
        """What it was published as."""


class Models(Protocol):
    """Warm models by name: of this process, or of the one that owns the device."""

    def get(self, reference: str = "") -> Loaded:
        """See `LiveModels.get`."""

    def loaded(self) -> list[str]:
        """References of the loaded models."""


class _Key(NamedTuple):
    """What a session is kept under: a folder that was removed can come again with other content."""

    reference: str
    artifact_id: str
    space_id: str


class _Meaning(NamedTuple):
    """What a reference stood for: for sure until a time, and as long as its folder has a stamp."""

    session: ModelSession
    stamp: Stamp
    until: float


class LiveModels:
    """The loaded models of a repository.

    A name without a version means the newest one that is warm: when a newer one is published, it is loaded
    aside and takes over once it is warm, and one that can't be loaded changes nothing for callers.

    Args:
        repository: Where names are looked up.
        open_session: Loads and warms one.
        default: The reference that an empty one stands for.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        repository: ModelRepository,
        open_session: SessionFactory,
        default: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.repository = repository
        self.default = default
        self._open_session = open_session
        self._clock = clock
        self._guard = threading.Lock()
        self._loading: dict[_Key, threading.Lock] = {}
        self._sessions: dict[_Key, ModelSession] = {}
        self._newest: dict[str, ModelSession] = {}
        self._tried_aside: set[_Key] = set()
        self._meant: dict[str, _Meaning] = {}

    def get(self, reference: str = "") -> ModelSession:
        """The session of ``name`` or ``name@version``, loaded if it must be.

        Raises:
            InvalidArgument, ModelNotFound, ModelFileError, SettingsError: see ``ModelRepository.resolve``
                and ``ModelSession``.
        """
        reference = reference or self.default
        now = self._clock()
        meant = self._meant.get(reference)
        if meant is not None and now < meant.until:
            return meant.session
        name, version = parse_reference(reference, "model")
        stamp = self.repository.stamp(name)
        if meant is not None and meant.stamp == stamp:
            # Another thread may have seen a newer version meanwhile.
            if self._meant.get(reference) is meant:
                self._meant[reference] = meant._replace(until=now + _LOOK_EVERY_S)
            return meant.session
        session, is_newest = self._look_up(reference, name, version)
        # The stamp was taken before the folder was read, so that a change in between shows.
        if is_newest and stamp is not None:
            self._meant[reference] = _Meaning(session, stamp, now + _LOOK_EVERY_S)
        return session

    def loaded(self) -> list[str]:
        """References of the loaded models."""
        with self._guard:
            return sorted({key.reference for key in self._sessions})

    def _look_up(self, reference: str, name: str, version: int | None) -> tuple[ModelSession, bool]:
        """The session to use now, and whether it is what the folder holds: else a newer one is on its way."""
        with self._guard:
            warm = self._newest.get(name) if version is None else None
        if warm is None:
            return self._load(self.repository.resolve(reference)), True
        folder = self._newest_folder(name, warm)
        if folder is None:
            return warm, False
        with self._guard:
            ready = warm if _key(folder.card) == _key(warm.card) else self._sessions.get(_key(folder.card))
        if ready is not None:
            return ready, True
        self._load_aside(folder)
        return warm, False

    def _newest_folder(self, name: str, warm: ModelSession) -> ModelFolder | None:
        """The newest published version; None where what is on disk can't be used and ``warm`` goes on."""
        try:
            return self.repository.resolve(name)
        except TrunklineError as exc:
            _log.warning("model %s goes on serving: %s", warm.card.reference, exc)
            return None

    def _load(self, folder: ModelFolder) -> ModelSession:
        key = _key(folder.card)
        with self._guard:
            session = self._sessions.get(key)
            loading = self._loading.setdefault(key, threading.Lock())
        if session is not None:
            return session
        # One loader per model; callers of other models don't wait for it.
        with loading:
            with self._guard:
                session = self._sessions.get(key)
            if session is None:
                session = self._open_session(folder)
                self._keep(key, session)
        return session

    def _load_aside(self, folder: ModelFolder) -> None:
        key = _key(folder.card)
        with self._guard:
            if key in self._tried_aside:
                return
            self._tried_aside.add(key)
        threading.Thread(target=self._try, args=(folder,), name=f"load {key.reference}", daemon=True).start()

    def _try(self, folder: ModelFolder) -> None:
        try:
            self._load(folder)
        except TrunklineError as exc:
            _log.error("model %s was published and can't be loaded: %s", folder.card.reference, exc)

    def _keep(self, key: _Key, session: ModelSession) -> None:
        with self._guard:
            self._sessions[key] = session
            name = session.card.name
            newest = self._newest.get(name)
            if newest is None or newest.card.version <= session.card.version:
                self._newest[name] = session


def _key(card: ModelCard) -> _Key:
    return _Key(card.reference, card.artifact.artifact_id, card.space_id)
