"""Vectors in clusters, and a structure of each kind over them; the answers of exact search are the truth."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from trunkline_service.index.exact import half_squares_of, nearest
from trunkline_service.index.kinds.approximate import Approximate
from trunkline_service.index.kinds.building import build
from trunkline_service.index.metric import prepared
from trunkline_service.index.options import IndexKind

METRICS = ["cosine", "dot", "euclidean"]
PARAMETERS: dict[IndexKind, dict[str, int]] = {
    "ivf_flat": {"nlist": 24},
    "ivf_sq8": {"nlist": 24, "k_factor": 4},
    "ivf_pq": {"nlist": 24, "m": 8, "k_factor": 30},
    "hnsw": {"M": 16, "efConstruction": 80},
}
KINDS = list(PARAMETERS)
ROWS, DIM = 3000, 16


@cache
def vectors_of(metric: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(40, DIM))
    raw = centres[rng.integers(40, size=ROWS)] + rng.normal(size=(ROWS, DIM)) * 0.5
    # Lengths differ, so that the metrics disagree.
    raw *= rng.uniform(0.5, 1.5, size=(ROWS, 1))
    return prepared(raw.astype(np.float32), metric)


@cache
def queries_of(metric: str, count: int = 60) -> NDArray[np.float32]:
    rng = np.random.default_rng(2)
    near = vectors_of("dot")[rng.integers(ROWS, size=count)]
    return prepared((near + rng.normal(size=near.shape) * 0.2).astype(np.float32), metric)


def built(kind: IndexKind, metric: str, vectors: NDArray[np.float32], **parameters: int) -> Approximate:
    return build(
        kind,
        vectors,
        metric=metric,
        parameters=PARAMETERS[kind] | parameters,
        progress=lambda phase, done: None,
        cancelled=lambda: False,
        threads=2,
    )


@cache
def structure(kind: IndexKind, metric: str) -> Approximate:
    return built(kind, metric, vectors_of(metric))


def exactly(
    metric: str, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    vectors = vectors_of(metric)
    halves = half_squares_of(vectors) if metric == "euclidean" else None
    return nearest(queries, vectors, k, metric, allowed, halves)


def recall(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, true, strict=True)]))


def whole(kind: IndexKind) -> int:
    """The effort that leaves nothing out."""
    return ROWS if kind == "hnsw" else PARAMETERS[kind]["nlist"]
