"""When a head abstains: which items are unlike anything that it learned. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.serving.loaded import Answer
from trunkline_service.heads.task import OUTPUTS

Reason: TypeAlias = Literal["far", "low_probability"]
CARD_QUANTILE = "0.99"
"""The share of held-out rows that are nearer than the distance which ``card`` stands for."""


@dataclass(frozen=True)
class UnknownPolicy:
    """What makes an item unknown: one of the bounds that are set is broken.

    Attributes:
        min_probability: Of the most probable class; an item below it is unknown. None for any.
        max_distance: From the training rows; an item beyond it is unknown. ``card`` for the distance below
            which 99% of the held-out rows lie, None for any.

    Raises:
        InvalidArgument: A probability outside 0 to 1, or a distance that is no positive number.
    """

    min_probability: float | None = None
    max_distance: float | Literal["card"] | None = None

    def __post_init__(self) -> None:
        least, most = self.min_probability, self.max_distance
        if least is not None and not 0 <= least <= 1:
            raise InvalidArgument(f"min_probability is {least!r}; it must be from 0 to 1")
        if isinstance(most, str) and most != "card":
            raise InvalidArgument(f"max_distance is {most!r}; give a number, or 'card' for the head's own")
        if isinstance(most, (int, float)) and not (math.isfinite(most) and most > 0):
            raise InvalidArgument(f"max_distance is {most!r}; it must be positive and finite")

    def reasons(self, card: HeadCard, answer: Answer) -> dict[int, Reason]:
        """Why items are unknown, by position, rising; items that failed are not.

        Args:
            card: Of the head.
            answer: What it said, with distances where ``max_distance`` is set.

        Raises:
            InvalidArgument: The head gives no probabilities, or measures no distance, and a bound on them
                is set.
        """
        found: dict[int, Reason] = {}
        if self.min_probability is not None:
            likely = _probability(card, answer)
            found |= dict.fromkeys(np.flatnonzero(likely < self.min_probability).tolist(), "low_probability")
        if self.max_distance is not None:
            # The graver reason: of what is far, no probability means anything.
            beyond = _measured(card, answer) > self.bound(card)
            found |= dict.fromkeys(np.flatnonzero(beyond).tolist(), "far")
        return dict(sorted(found.items()))

    def bound(self, card: HeadCard) -> float:
        """The distance beyond which an item is unknown to a head; infinite for None.

        Raises:
            InvalidArgument: ``card``, and the card knows none.
        """
        if self.max_distance is None:
            return math.inf
        if self.max_distance != "card":
            return self.max_distance
        if CARD_QUANTILE not in card.distance_quantiles:
            raise InvalidArgument(
                f"the card of head {card.ref} knows no distance of held-out rows; fit the head again, or give the "
                "largest distance as a number"
            )
        return card.distance_quantiles[CARD_QUANTILE]


def _probability(card: HeadCard, answer: Answer) -> NDArray[np.float32]:
    """(N,) of the most probable class; NaN for items that failed."""
    if OUTPUTS[card.task] != "probabilities":
        raise InvalidArgument(
            f"head {card.ref} is for {card.task} and gives no probabilities; leave min_probability out, or "
            "bound the distance"
        )
    likely: NDArray[np.float32] = answer.outputs.max(axis=1)
    return likely


def _measured(card: HeadCard, answer: Answer) -> NDArray[np.float32]:
    if answer.distance is None:
        raise InvalidArgument(
            f"head {card.ref} measures no distance from its training rows and can't tell what is far from "
            "them; fit it again, or ask without a bound on the distance"
        )
    return answer.distance
