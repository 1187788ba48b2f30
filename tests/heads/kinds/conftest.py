"""Training sets of every task that the tests of kinds share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.heads.training.training_set import TrainingSet

SPACE = "sp1-" + "0123456789abcdef" * 2

Given = Callable[..., TrainingSet]


@pytest.fixture(scope="session")
def given() -> Given:
    """Builds a training set from rows, labels and any other field."""

    def make(rows: Any, labels: Any, **fields: Any) -> TrainingSet:
        return TrainingSet(
            embeddings=np.asarray(rows, dtype=np.float32),
            labels=labels,
            space_id=SPACE,
            collection="flowers",
            collection_version=7,
            model="trunkline-small@1",
            **fields,
        )

    return make


@pytest.fixture(scope="session")
def clouds(given: Given) -> Callable[..., TrainingSet]:
    """Normal clouds, one a class, ``distance`` apart on average."""

    def make(
        per_class: int = 20, classes: int = 3, dim: int = 8, distance: float = 3.0, **fields: Any
    ) -> TrainingSet:
        generator = np.random.default_rng(5)
        centres = generator.normal(size=(classes, dim)) * distance / np.sqrt(2 * dim)
        codes = np.repeat(np.arange(classes), per_class)
        rows = centres[codes] + generator.normal(size=(len(codes), dim)) / np.sqrt(2)
        return given(rows, [f"class {k}" for k in codes], **fields)

    return make


@pytest.fixture(scope="session")
def values(given: Given) -> Callable[..., TrainingSet]:
    """Values that are linear in the rows, with noise; ``targets`` of them."""

    def make(
        rows: int = 60, dim: int = 6, targets: int = 1, noise: float = 0.3, **fields: Any
    ) -> TrainingSet:
        generator = np.random.default_rng(3)
        x = generator.normal(size=(rows, dim)) + 2
        y = x @ generator.normal(size=(dim, targets)) + noise * generator.normal(size=(rows, targets))
        names = tuple(f"value {m}" for m in range(targets))
        return given(x, y, task="regression", target="values", targets=names, **fields)

    return make


@pytest.fixture(scope="session")
def tags(given: Given) -> Callable[..., TrainingSet]:
    """Rows with none, one or two of the labels ``dark`` and ``wet``, each along a direction of its own."""

    def make(rows: int = 80, dim: int = 6, **fields: Any) -> TrainingSet:
        generator = np.random.default_rng(4)
        x = generator.normal(size=(rows, dim))
        has = x[:, :2] * 3 + generator.normal(size=(rows, 2)) > 0.5
        labels = [tuple(name for name, own in zip(("dark", "wet"), row, strict=True) if own) for row in has]
        return given(x, labels, task="multi-label", **fields)

    return make
