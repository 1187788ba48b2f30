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


@dataclass(frozen=True)
class Predicted:
    """What a head says.

    Attributes:
        probabilities: float32 [N, classes]; NaN where an image failed.
        head: The head's card, classes in the order of the columns.
        embedded: The vectors behind it, or None where the caller brought vectors.
    """

    probabilities: NDArray[np.float32]
    head: HeadCard
    embedded: Embedded | None


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
