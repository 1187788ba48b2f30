"""What the facade answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.engine import Embedded
from trunkline_service.batching.request import Timings
from trunkline_service.errors import TrunklineError
from trunkline_service.heads.card import HeadCard
from trunkline_service.index.outcome import SearchOutcome


@dataclass(frozen=True)
class Added:
    """What ``Workspace.add`` did.

    Attributes:
        ids: Of every row, in the order of the request; error rows too.
        embedded: Vectors, errors and timings.
        version: The collection's version after the write.
    """

    ids: tuple[str, ...]
    embedded: Embedded
    version: int


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one head says of N items.

    Attributes:
        card: Of the version that answered.
        outputs: (N, K) float32, columns in the order of the card's classes; (N, 1) for ``anomaly``. NaN where
            an item failed.
        distance: (N,) float32, how far each item is from the training rows; None where the head does not
            measure it, or it was not asked for.
        unknown: Why an item is unknown, by position.
    """

    card: HeadCard
    outputs: NDArray[np.float32]
    distance: NDArray[np.float32] | None
    unknown: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class Predicted:
    """What heads say of N items.

    Attributes:
        predictions: One a head, in the order of the request.
        vectors: (N, dim) float32, what they were asked about; NaN where an item failed.
        errors: Items that failed, by position.
        embedded: What embedded the images; None where the caller brought vectors, or named rows.
        neighbours: The nearest rows; None where they were not asked for.
    """

    predictions: tuple[Prediction, ...]
    vectors: NDArray[np.float32]
    errors: Mapping[int, TrunklineError]
    embedded: Embedded | None
    neighbours: Found | None

    @property
    def head(self) -> HeadCard:
        """The card of the first head."""
        return self.predictions[0].card

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """The outputs of the first head."""
        return self.predictions[0].outputs


@dataclass(frozen=True)
class Found:
    """What ``Workspace.search`` found.

    Attributes:
        outcome: Hits by query, and the version that was searched.
        errors: Query images that could not be used, by position; they have no hits.
        space_id: The collection's space.
        timings: Of embedding the query images.
    """

    outcome: SearchOutcome
    errors: Mapping[int, TrunklineError]
    space_id: str
    timings: Timings
