"""Live models: each version is loaded once, on first use or before the server says it is ready."""

from __future__ import annotations

import threading
from collections.abc import Callable

from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.models.session import ModelSession

SessionFactory = Callable[[ModelFolder], ModelSession]


class LiveModels:
    """The loaded models of a repository.

    Args:
        repository: Where names are looked up, at every call: a version published a moment ago is found.
        open_session: Loads and warms one.
        default: The name that an empty reference stands for.
    """

    def __init__(self, repository: ModelRepository, open_session: SessionFactory, default: str) -> None:
        self.repository = repository
        self.default = default
        self._open_session = open_session
        self._guard = threading.Lock()
        self._loading: dict[tuple[str, str], threading.Lock] = {}
        self._sessions: dict[tuple[str, str], ModelSession] = {}

    def get(self, reference: str = "") -> ModelSession:
        """The session of ``name`` or ``name@version``, loaded if it isn't.

        Raises:
            InvalidArgument, ModelNotFound, ModelFileError, SettingsError: see ``ModelRepository.resolve``
                and ``ModelSession``.
        """
        folder = self.repository.resolve(reference or self.default)
        # The artifact too: a folder that was removed can come again with another file.
        key = (folder.card.reference, folder.card.artifact.artifact_id)
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
                with self._guard:
                    self._sessions[key] = session
        return session

    def loaded(self) -> list[str]:
        """References of the loaded models."""
        with self._guard:
            return sorted({reference for reference, _artifact in self._sessions})
