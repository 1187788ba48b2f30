"""Heads that say who they are, and registries that save and load them, in a folder and in an object store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.network import Linear, Network
from trunkline_service.heads.storage.registry import HeadRegistry

SPACE = "sp1-" + "0123456789abcdef" * 2
CLASSES = tuple(f"c{index}" for index in range(12))
DIM = 3

Saying = Callable[..., FittedHead]
Opening = Callable[..., HeadRegistry]


@pytest.fixture(scope="session")
def saying() -> Saying:
    """``saying(3)`` answers class ``c3`` whatever it is asked; it was fitted on nothing."""

    def make(index: int = 0, *notes: str) -> FittedHead:
        bias = np.zeros(len(CLASSES), np.float32)
        bias[index] = 20.0
        return FittedHead(
            kind="pretrained",
            task="single-label",
            network=Network(Linear(np.zeros((len(CLASSES), DIM), np.float32), bias), "softmax"),
            classes=CLASSES,
            space_id=SPACE,
            model="tiny@1",
            collection="",
            collection_version=0,
            training_hash="a" * 64,
            rows=0,
            hyper_parameters={},
            temperature=1.0,
            evaluation=None,
            notes=notes,
        )

    return make


@pytest.fixture
def s3_data(s3_bucket: str) -> str:
    """A data URI in a bucket of its own."""
    return f"{s3_bucket}/data"


@pytest.fixture(params=["folder", "s3"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    """Registries over the same data, each without any memory of the others."""
    data = tmp_path if request.param == "folder" else request.getfixturevalue("s3_data")
    return lambda **options: HeadRegistry(data, **options)


@pytest.fixture
def registry(opening: Opening) -> HeadRegistry:
    return opening()


@pytest.fixture
def three(registry: HeadRegistry, saying: Saying) -> HeadRegistry:
    """A registry with versions 1 to 3 of ``flowers``; version n answers ``cn``."""
    for version in (1, 2, 3):
        registry.save(saying(version), "flowers")
    return registry


def answer(registry: HeadRegistry, ref: str) -> str:
    """The class that a head answers."""
    head = registry.load(ref)
    rows = head.probabilities(np.zeros((1, 3), np.float32), head.card.space_id)
    return head.card.classes[int(rows[0].argmax())]
