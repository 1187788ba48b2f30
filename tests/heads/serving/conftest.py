"""Networks of every kind, and heads made of them without a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fitted import Convergence
from trunkline_service.heads.network import Distance, Linear, Mlp, Neighbours, Network, Normaliser
from trunkline_service.heads.serving import onnx_head
from trunkline_service.heads.serving.loaded import LoadedHead

SPACE = "sp1-" + "0123456789abcdef" * 2

MakeNetwork = Callable[..., Network]
MakeHead = Callable[..., LoadedHead]


def _floats(generator: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return generator.normal(size=shape).astype(np.float32)


def _distance(generator: np.random.Generator, dim: int, rank: int) -> Distance:
    directions = np.linalg.qr(generator.normal(size=(dim, dim)))[0][:rank].astype(np.float32)
    variances = generator.uniform(1, 5, rank).astype(np.float32)
    return Distance(_floats(generator, dim), directions, variances, 0.5)


@pytest.fixture(scope="session")
def make_network() -> MakeNetwork:
    """Makes a network of random weights: of a body, and of what else is asked for."""

    def make(
        body: str = "linear",
        *,
        seed: int = 0,
        dim: int = 6,
        classes: int = 3,
        activation: Any = "softmax",
        normalised: bool = False,
        rank: int | None = None,
    ) -> Network:
        generator = np.random.default_rng(seed)
        made: Any
        match body:
            case "linear":
                made = Linear(_floats(generator, classes, dim), _floats(generator, classes))
            case "mlp":
                hidden = Linear(_floats(generator, 8, dim), _floats(generator, 8))
                made = Mlp(hidden, Linear(_floats(generator, classes, 8), _floats(generator, classes)))
            case "neighbours":
                rows, codes = _floats(generator, 30, dim), generator.integers(0, classes, 30)
                made = Neighbours(rows, codes, classes, int(generator.integers(1, 31)), 0.7, 0.01)
            case "distance":
                made = _distance(generator, dim, min(2, dim))
        return Network(
            made,
            activation,
            Normaliser(_floats(generator, dim)) if normalised else None,
            None if rank is None else _distance(generator, dim, min(rank, dim)),
        )

    return make


@pytest.fixture(scope="session")
def make_head() -> MakeHead:
    """Loads a head of a network, as if it had been saved; ``fields`` go into its card."""

    def make(
        network: Network, task: Any = "single-label", name: str = "flowers", **fields: Any
    ) -> LoadedHead:
        classes = () if task == "anomaly" else tuple(f"c{k}" for k in range(network.outputs))
        values: dict[str, Any] = {
            "name": name,
            "version": 1,
            "kind": "logistic",
            "task": task,
            "space_id": SPACE,
            "dim": network.dim,
            "model": "tiny@1",
            "decode": "exact",
            "classes": classes,
            "target": "label",
            "collection": "photos",
            "collection_version": 1,
            "training_hash": "0" * 64,
            "rows": 10,
            "hyper_parameters": {},
            "temperature": 1.0,
            "convergence": Convergence(),
            "metrics": None,
            "test_metrics": None,
            "distance_quantiles": {},
            "curves": {},
            "notes": (),
            "head_sha256": "0" * 64,
            "created_at": "2026-01-01T00:00:00+00:00",
            "trunkline_version": "0",
        }
        card = HeadCard(**(values | fields))
        return LoadedHead(card, onnx_head.build(network, classes, card.space_id, task))

    return make
