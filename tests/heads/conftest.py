"""Training sets and fitted heads that the tests of heads share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.logistic import fit_logistic
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.training.training_set import TrainingSet

SPACE = "sp1-" + "0123456789abcdef" * 2

MakeSet = Callable[..., TrainingSet]


@pytest.fixture(scope="session")
def make_set() -> MakeSet:
    """Builds a training set from anything that looks like rows and labels."""

    def make(rows: Any, labels: Any) -> TrainingSet:
        return TrainingSet(
            embeddings=np.asarray(rows, dtype=np.float32),
            labels=list(labels),
            space_id=SPACE,
            collection="flowers",
            collection_version=7,
            model="trunkline-small@1",
        )

    return make


@pytest.fixture(scope="session")
def blobs(make_set: MakeSet) -> Callable[..., TrainingSet]:
    """Normal clouds of ``per_class[k]`` rows around random centres, labelled by ``labels[k]``."""

    def make(per_class: list[int], labels: list[str], *, dim: int = 6, spread: float = 1.0) -> TrainingSet:
        generator = np.random.default_rng(5)
        centres = generator.normal(scale=3.0, size=(len(labels), dim))
        codes = np.repeat(np.arange(len(labels)), per_class)
        generator.shuffle(codes)
        rows = centres[codes] + generator.normal(scale=spread, size=(len(codes), dim))
        return make_set(rows, [labels[k] for k in codes])

    return make


@pytest.fixture(scope="session")
def iris(make_set: MakeSet) -> TrainingSet:
    from sklearn.datasets import load_iris

    bunch = load_iris()
    return make_set(bunch.data, [str(bunch.target_names[k]) for k in bunch.target])


@pytest.fixture(scope="session")
def fitted(iris: TrainingSet) -> FittedHead:
    return fit_logistic(iris, FitOptions(grid=(0.1, 1.0)))
