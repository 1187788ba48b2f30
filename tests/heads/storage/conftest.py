"""Heads that say who they are: what the tests of storage save and load."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.network import Linear, Network

SPACE = "sp1-" + "0123456789abcdef" * 2
CLASSES = tuple(f"c{index}" for index in range(12))
DIM = 3


@pytest.fixture(scope="session")
def saying() -> Callable[..., FittedHead]:
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
