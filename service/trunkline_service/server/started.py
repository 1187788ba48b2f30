"""What a server says when it is ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trunkline_service.models.card import ModelCard


@dataclass(frozen=True)
class Started:
    """A server that is ready, whether of one process or of several.

    Attributes:
        models: Of the models that are warm, by reference, whether their weights are trained.
        device: Where they run.
    """

    models: Mapping[str, bool]
    device: str


def started(cards: Iterable[ModelCard], device: object) -> Started:
    """The same, of these cards on this device."""
    return Started({card.reference: card.pretrained for card in cards}, str(device))
