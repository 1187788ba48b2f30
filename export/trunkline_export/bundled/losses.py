"""What the student is asked to match, and how far off it is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from trunkline_export.bundled.views import ViewSet

SAMPLE = 16_384
"""Views that the statistics of the dense targets are taken over; all of them would cost gigabytes."""


@dataclass(frozen=True)
class Standardiser:
    """Per-dimension mean and deviation of a target, float32 (192,) each.

    Without it the few dimensions of large variance would make up nearly all of the squared error.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def fit(cls, targets: npt.NDArray[np.float16]) -> "Standardiser":
        """From targets of shape (..., 192)."""
        rows = torch.from_numpy(targets.reshape(-1, targets.shape[-1]).astype(np.float32))
        return cls(rows.mean(0), rows.std(0))

    def __call__(self, targets: Tensor) -> Tensor:
        """Raw (..., 192) to zero mean and unit variance."""
        return (targets - self.mean) / self.deviation


@dataclass(frozen=True)
class LossWeights:
    """Shares of the terms: the embedding, the 4 x 4 grid, and the teacher's class probabilities."""

    embedding: float = 1.0
    grid: float = 0.5
    classes: float = 0.2


class DistilLoss:
    """Squared error on standardised targets, plus the divergence of the teacher's class probabilities.

    The teacher's classifier is linear in its class token, so it reads a student's embedding as
    well, once folded with the standardisation. The divergence (Hinton et al., 2015) weighs
    directions by what they say about content, which a plain squared error cannot know.
    """

    def __init__(self, views: ViewSet, classifier: tuple[Tensor, Tensor], weights: LossWeights) -> None:
        self.embedding = Standardiser.fit(views.class_tokens)
        self.grid = Standardiser.fit(views.grids[:SAMPLE])
        self.weights = weights
        weight, bias = classifier
        self._weight = weight * self.embedding.deviation
        self._bias = bias + weight @ self.embedding.mean

    def __call__(
        self, predicted: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The weighted terms (embedding, grid, classes), scalars.

        Parameters
        ----------
        predicted : embeddings (N, 192) and grids (N, 4, 4, 192), standardised.
        wanted : the teacher's raw class tokens and grids of the same shapes.
        """
        embeddings, grids = predicted
        targets = self.embedding(wanted[0])
        return (
            self.weights.embedding * functional.mse_loss(embeddings, targets),
            self.weights.grid * functional.mse_loss(grids, self.grid(wanted[1])),
            self.weights.classes * self._divergence(embeddings, targets),
        )

    def _divergence(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        log_predicted, log_wanted = (
            functional.log_softmax(functional.linear(vectors, self._weight, self._bias), dim=1)
            for vectors in (embeddings, targets)
        )
        return functional.kl_div(log_predicted, log_wanted, reduction="batchmean", log_target=True)
