"""A head that was fitted and not saved yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.evaluation.evaluate import Evaluation


@dataclass(frozen=True, eq=False)
class FittedHead:
    """Weights, evaluation and provenance of a head; ``HeadRegistry.save`` gives it a name and a version.

    Attributes:
        kind: A key of ``fit.KINDS``.
        W: (K, dim) float32.
        b: (K,) float32; ``softmax(x @ W.T + b)`` are the calibrated probabilities of raw embeddings x.
        classes: K labels, in the order of the outputs.
        space_id: The space of the embeddings.
        model: ``name@version`` of the model that gave them.
        collection: Where the rows came from.
        collection_version: Its version then.
        training_hash: SHA-256 over the embeddings and labels learned from; of a kept classifier, over its
            weights.
        rows: How many those were.
        hyper_parameters: What was chosen, from what, and how; plain JSON values.
        temperature: What the logits were divided by; already inside ``W`` and ``b``.
        evaluation: Out-of-fold figures; None where nothing was learned from rows here.
        converged: Whether the solver reached its tolerance on the weights that are served.
        notes: What was left out and what deserves a look, in sentences.
        out_of_fold: (N, K) float32 calibrated probabilities of the rows learned from, each from models that
            had not seen the row, rounded after ``evaluation`` was computed. Not saved; None where a kind
            has none.
    """

    kind: str
    W: npt.NDArray[np.float32]
    b: npt.NDArray[np.float32]
    classes: tuple[str, ...]
    space_id: str
    model: str
    collection: str
    collection_version: int
    training_hash: str
    rows: int
    hyper_parameters: Mapping[str, Any]
    temperature: float
    evaluation: Evaluation | None
    converged: bool
    notes: tuple[str, ...]
    out_of_fold: npt.NDArray[np.float32] | None = None

    @property
    def dim(self) -> int:
        """Length of the embeddings."""
        return int(self.W.shape[1])
