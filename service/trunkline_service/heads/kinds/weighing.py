"""How much each row counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.training.training_set import TrainingSet

Floats = npt.NDArray[np.float64]


def row_weights(data: TrainingSet, options: FitOptions) -> Floats | None:
    """(N,) weights of mean 1: of the rows, and for ``balanced`` of their classes; None where all are 1.

    Balanced classes weigh the same in sum.
    """
    weights = data.weights
    if options.class_weight == "balanced":
        codes = data.codes()
        own = np.ones(len(codes)) if weights is None else weights
        weights = own / np.bincount(codes, weights=own, minlength=len(data.classes))[codes]
    return None if weights is None else weights / weights.mean()
