"""The seam between those who want vectors and whatever computes them.

The same interface stands in front of the stages of this process and, with front processes, in front of
a connection to the process that owns the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trunkline_service.batching.request import Lane, Timings
from trunkline_service.errors import TrunklineError
from trunkline_service.images.inputs import ImageInput
from trunkline_service.models.card import ModelCard
from trunkline_service.settings import DecodeMode


@dataclass(frozen=True)
class Caller:
    """Who waits for an answer.

    Attributes:
        lane: ``interactive`` or ``bulk``.
        timeout_s: Seconds it will wait; None for no limit.
        on_cancel: Registers a function to be called if the caller goes away.
        decode: How JPEG is decoded; None for the engine's own mode.
    """

    lane: Lane = "interactive"
    timeout_s: float | None = None
    on_cancel: Callable[[Callable[[], None]], None] | None = None
    decode: DecodeMode | None = None


@dataclass(frozen=True)
class Embedded:
    """Vectors of a request.

    Attributes:
        vectors: float32 [N, dim]; a row of NaN where an image failed.
        errors: Reasons, by position of the image.
        card: The model that made them.
        decode: The decode mode that was used.
        timings: Mean seconds in each stage.
    """

    vectors: NDArray[np.float32]
    errors: Mapping[int, TrunklineError]
    card: ModelCard
    decode: DecodeMode
    timings: Timings


class Engine(Protocol):
    """Computes embeddings."""

    def embed(self, model: str, images: Sequence[ImageInput], caller: Caller) -> Embedded:
        """Embeds images with a model, in order.

        Raises:
            Overloaded: Nothing was admitted; come again later.
            DeadlineExpired, Cancelled: The caller's time ran out, or it went away.
            ModelNotFound, ModelFileError: See ``LiveModels.get``.
            Unavailable: The engine is closing.
        """

    def trouble(self) -> str | None:
        """Why no more answers should be expected, if so."""

    def close(self, timeout_s: float) -> None:
        """Finishes what was admitted and stops."""
