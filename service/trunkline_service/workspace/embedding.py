"""Images -> vectors of the space that somebody expects."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trunkline_service.batching.engine import Caller, Embedded, Engine
from trunkline_service.errors import FailedPrecondition, SpaceMismatch
from trunkline_service.images.inputs import ImageInput
from trunkline_service.models.card import ModelCard
from trunkline_service.models.registry import Models

if TYPE_CHECKING:
    # Who only embeds loads nothing of collections.
    from trunkline_service.collections.collection import Collection


class Embedder:
    """Embeds, and refuses vectors of another space than is wanted.

    Args:
        models: The models that are loaded.
        engine: Computes.
    """

    def __init__(self, models: Models, engine: Engine) -> None:
        self._models = models
        self._engine = engine

    def embed(
        self, images: Sequence[ImageInput], model: str, caller: Caller | None, wanted: str = "", who: str = ""
    ) -> Embedded:
        """Embeds images, in order; a bad one fails alone.

        Args:
            images: Of any number.
            model: ``name`` or ``name@version``; empty for the default.
            caller: Who waits.
            wanted: The space that the vectors must lie in; empty for any.
            who: Wants it, for the message: ``"collection 'c' holds"``.

        Raises:
            SpaceMismatch: The model's space is not the wanted one.
            TrunklineError: See ``Engine.embed``.
        """
        if wanted:
            # Before anything is spent; and once more, for a newer version may take over between the two.
            _same_space(self._models.get(model).card, wanted, who)
        embedded = self._engine.embed(model, images, caller or Caller())
        if wanted:
            _same_space(embedded.card, wanted, who)
        return embedded

    def embed_for(
        self, target: Collection, images: Sequence[ImageInput], model: str = "", caller: Caller | None = None
    ) -> Embedded:
        """Vectors that may meet those of a collection: of its space, decoded in its mode.

        Raises:
            SpaceMismatch: The model makes vectors of another space.
            FailedPrecondition: No model makes vectors of the collection's space.
            TrunklineError: See ``Engine.embed``.
        """
        spec = target.spec
        if spec.decode == "unknown":
            raise FailedPrecondition(
                f"collection {target.name!r} holds vectors that were brought in: no model here makes vectors of its "
                f"declared space {spec.space_id}; ask it with vectors or ids"
            )
        caller = dataclasses.replace(caller or Caller(), decode=spec.decode)
        return self.embed(
            images, model or spec.model, caller, spec.space_id, f"collection {target.name!r} holds"
        )


def _same_space(card: ModelCard, wanted: str, who: str) -> None:
    if card.space_id != wanted:
        raise SpaceMismatch(
            f"model {card.reference} makes vectors of space {card.space_id}; {who} space {wanted}: "
            "name the model of that space"
        )
