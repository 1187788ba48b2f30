"""What a choice among structures comes to."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_service.index.card import Level, Recall, Setting
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.options import IndexKind


@dataclass(frozen=True, eq=False)
class Choice:
    """What serves a collection best.

    Attributes:
        kind: ``flat`` where exact search does.
        approximate: The structure; None for ``flat``.
        effort: For its searches; 0 for ``flat``.
        recall: What that gives; None for ``flat``.
        settings: All that were measured of this kind; for ``flat``, of the last one that was tried.
        reason: Why; a clause without a full stop.
        parameters: Of the structure.
        levels: Efforts by the number of neighbours; see `IndexCard.levels`.
    """

    kind: IndexKind
    approximate: Approximate | None
    effort: int
    recall: Recall | None
    settings: tuple[Setting, ...]
    reason: str
    parameters: dict[str, int]
    levels: tuple[Level, ...] = ()
