"""The part of the workspace that is about models: opening them, warming them, embedding images with them.

Alone it is all that a front process and the device's need: it loads nothing of collections, heads and searches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from trunkline_service.batching.engine import Caller, Embedded, Engine
from trunkline_service.batching.observer import Observer
from trunkline_service.batching.pipeline import local_engine
from trunkline_service.errors import TrunklineError
from trunkline_service.images.inputs import ImageInput
from trunkline_service.models.calibration import open_session
from trunkline_service.models.card import ModelCard
from trunkline_service.models.registry import LiveModels, Models
from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.models.session import Device, ModelSession, parse_device
from trunkline_service.settings import Settings
from trunkline_service.workspace.embedding import Embedder

_log = logging.getLogger(__name__)


class EmbeddingWork:
    """Models of one place, and what computes with them.

    Args:
        settings: Where they are, and how to run.
        observer: Told what the stages measure.
        engine: Instead of one in this process.
        models: The models that this engine runs; beside ``engine``.
    """

    def __init__(
        self,
        settings: Settings,
        observer: Observer | None = None,
        engine: Engine | None = None,
        models: Models | None = None,
    ) -> None:
        self.settings = settings
        self.device: Device = parse_device(settings.device)
        self.repository = ModelRepository(Path(settings.models))
        if engine is None or models is None:
            live = LiveModels(self.repository, self._open_session, settings.default_model)
            engine, models = local_engine(live, settings, observer), live
        self.models: Models = models
        self.engine: Engine = engine
        self._embedder = Embedder(self.models, self.engine)

    def close(self) -> None:
        """Finishes what was admitted and lets everything go."""
        self.engine.close(self.settings.drain_s)

    def warm(self, stopping: Callable[[], bool] = lambda: False) -> list[ModelCard]:
        """Loads the default model and the newest version of every other; returns their cards.

        Args:
            stopping: Asked before each model; True ends the loading.

        Raises:
            ModelFileError, ModelNotFound, SettingsError: The default model can't be loaded.
        """
        cards, problems = self.repository.cards()
        for problem in problems:
            _log.error("%s", problem)
        warm = [self.models.get().card]
        for name in sorted({card.name for card in cards} - {warm[0].name}):
            if stopping():
                break
            try:
                warm.append(self.models.get(name).card)
            except TrunklineError as exc:
                # The others serve; a call that names this one reads why it can't.
                _log.error("%s", exc)
        return warm

    def embed(
        self,
        images: Sequence[ImageInput],
        model: str = "",
        caller: Caller | None = None,
        expect_space: str = "",
    ) -> Embedded:
        """Embeds images, in order; a bad one fails alone.

        Raises:
            SpaceMismatch: The model's space is not the expected one.
            TrunklineError: See ``Engine.embed``.
        """
        return self._embedder.embed(images, model, caller, expect_space, "the caller expects")

    def _open_session(self, folder: ModelFolder) -> ModelSession:
        if not folder.card.pretrained:
            _log.info("model %s has random weights; its vectors mean nothing", folder.card.reference)
        session = open_session(folder, self.device, self.settings)
        _log.info("model %s is warm on %s", folder.card.reference, self.device)
        return session
