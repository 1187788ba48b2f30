"""Made-up and real vectors, their true neighbours, and collections of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
CENTRES = 2000
SPACE = "declared:bench"
SHARES = {"10%": 100, "1%": 10, "0.1%": 1}
"""Filters by share: rows whose column `slot` (0..999) is below this pass."""
_STEP = 50_000
_BLOCK = 16_384


def unit(vectors: NDArray[Any]) -> Floats:
    """Of length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def scattered(count: int, dim: int, seed: int) -> Floats:
    """Without any structure."""
    return unit(np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32))


def clustered(count: int, dim: int, seed: int) -> Floats:
    """Around 2,000 centres, which are the same for every seed."""
    centres = np.random.default_rng(0).standard_normal((CENTRES, dim), dtype=np.float32)
    chance = np.random.default_rng(seed)
    noise = chance.standard_normal((count, dim), dtype=np.float32)
    return unit(centres[chance.integers(0, CENTRES, count)] + 0.5 * noise)


def tiled(flowers: str, count: int, dim: int, seed: int) -> Floats:
    """Real embeddings in their ``dim`` principal directions, each drawn again and again with noise."""
    from trunkline_service.collections.store import CollectionStore

    real = CollectionStore(flowers).open("flowers").matrix().embeddings
    real = real - real.mean(axis=0)
    _, _, directions = np.linalg.svd(real, full_matrices=False)
    real = real @ directions[:dim].T
    chance = np.random.default_rng(seed)
    noise = chance.standard_normal((count, real.shape[1]), dtype=np.float32) * (0.3 * real.std(axis=0))
    return unit(real[chance.integers(0, len(real), count)] + noise)


def kth_scores(vectors: Floats, queries: Floats, k: int, below: int | None = None) -> Floats:
    """The cosine of each query's true k-th neighbour, (Q,), among rows whose slot is ``below``."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        scores = queries @ vectors[start : start + _BLOCK].T
        if below is not None:
            scores[:, slots(start, scores.shape[1]) >= below] = -np.inf
        if scores.shape[1] > k:
            scores = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k:]
        best = np.sort(np.concatenate([best, scores], axis=1), axis=1)[:, -k:]
    return best[:, 0]


def recall(scores: list[list[float]], kth: Floats, k: int) -> float:
    """The share of the true k that was found: hits that are as near as the true k-th."""
    found = [sum(score >= least - 1e-6 for score in hits) for hits, least in zip(scores, kth, strict=True)]
    return sum(found) / (k * len(kth))


def slots(start: int, count: int) -> NDArray[np.int64]:
    """The column `slot` of rows: even, and in no order."""
    return (np.arange(start, start + count, dtype=np.int64) * 7919) % 1000


def filled(data: Path, name: str, vectors: Floats) -> None:
    """A compacted collection of the vectors, unless it is there."""
    from trunkline_service.collections.spec import CollectionSpec
    from trunkline_service.collections.store import CollectionStore

    store = CollectionStore(data)
    if store.exists(name) and store.open(name).info().rows >= len(vectors):
        return
    spec = CollectionSpec(SPACE, vectors.shape[1], "", "", "unknown", declared=True)
    collection = store.open_or_create(name, spec)
    for start in range(0, len(vectors), _STEP):
        collection.upsert(rows(start, vectors[start : start + _STEP]), space_id=SPACE, decode=None)
    collection.compact()


def rows(start: int, vectors: Floats) -> list[Any]:
    """Rows with ids from ``start``."""
    from trunkline_service.collections.rows import Row

    return [
        Row(
            f"train/image{number:08d}.jpg",
            vector,
            label=f"class{number % 100}",
            source=f"/photos/train/image{number:08d}.jpg",
            decode="unknown",
            metadata={"slot": int(slot)},
        )
        for number, (vector, slot) in enumerate(zip(vectors, slots(start, len(vectors)), strict=True), start)
    ]
