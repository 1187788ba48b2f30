"""A head that was fitted and not saved yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.heads.evaluation.kinds import AnyEvaluation
from trunkline_service.heads.network import Network
from trunkline_service.heads.task import Task


@dataclass(frozen=True)
class Convergence:
    """How the solver ended on the weights that are served.

    Attributes:
        converged: Whether it reached its tolerance.
        gradient_norm: Largest absolute entry of the mean loss's gradient at the end; 0 for closed forms.
        iterations: Steps taken; 0 for closed forms.
    """

    converged: bool = True
    gradient_norm: float = 0.0
    iterations: int = 0


@dataclass(frozen=True, eq=False)
class FittedHead:
    """Network, evaluation and provenance of a head; ``HeadRegistry.save`` gives it a name and a version.

    Attributes:
        kind: A key of ``fit.KINDS``.
        task: What its outputs mean.
        network: What it computes; calibrated, on raw embeddings.
        classes: K names, in the order of the outputs: labels, or for ``regression`` the targets; empty for
            ``anomaly``.
        space_id: The space of the embeddings.
        model: ``name@version`` of the model that gave them.
        collection: Where the rows came from.
        collection_version: Its version then.
        training_hash: SHA-256 over the embeddings and labels learned from; of a kept classifier, over its
            weights.
        rows: How many those were.
        hyper_parameters: What was chosen, from what, and how; plain JSON values.
        temperature: What the logits were divided by; already inside the network. 1 where nothing was.
        evaluation: Out-of-fold figures; None where nothing was learned from rows here.
        notes: What was left out and what deserves a look, in sentences.
        convergence: Of the solver.
        target: The column that was learned.
        decode: How the images of the training rows were decoded.
        test_evaluation: Figures on the test split, which nothing was chosen by; None without one.
        distance_quantiles: Of the network's distance (or of an anomaly head's score) over held-out rows:
            share of rows below (such as ``0.99``) to value. Empty without one.
        curves: What a training by epochs recorded, by name (``loss``, ``validation_loss``).
        out_of_fold: (N, K) float32 calibrated outputs for the rows learned from, each from models that had
            not seen the row; NaN for rows that were never held out. Not saved; None where a kind has none.
        group: The column whose equal values stayed on one side of every split; empty for none.
        test_split: Value of ``split`` of the rows that it was tested on.
    """

    kind: str
    task: Task
    network: Network
    classes: tuple[str, ...]
    space_id: str
    model: str
    collection: str
    collection_version: int
    training_hash: str
    rows: int
    hyper_parameters: Mapping[str, Any]
    temperature: float
    evaluation: AnyEvaluation | None
    notes: tuple[str, ...]
    convergence: Convergence = Convergence()
    target: str = "label"
    decode: str = "exact"
    test_evaluation: AnyEvaluation | None = None
    distance_quantiles: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    out_of_fold: NDArray[np.float32] | None = None
    group: str = ""
    test_split: str = "test"

    @property
    def dim(self) -> int:
        """Length of the embeddings."""
        return self.network.dim
