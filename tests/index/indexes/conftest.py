"""A collection of some hundreds of rows, and readers of it as if in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.index.indexes import Indexes
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import SearchPolicy

DIM, ROWS = 8, 600
SPEC = CollectionSpec(space_id="sp1-a", dim=DIM, model="tiny@1", artifact_id="ar1-a", decode="exact")


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    made = CollectionStore(tmp_path).create("points", SPEC)
    write(made, ROWS, first=0)
    return made


def write(collection: Collection, count: int, first: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    rows = [Row(f"r{first + number}", vector, f"l{number % 5}") for number, vector in enumerate(vectors)]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    return vectors


class Replicas:
    """Readers of one data folder, each as if in a process of its own, with clocks of their own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.opened: list[Indexes] = []
        self.now = 0.0

    def __call__(self, flat_rows: int = 100) -> Indexes:
        self.opened.append(Indexes(self.data, None, SearchPolicy(1, flat_rows), lambda: self.now))
        return self.opened[-1]


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replicas]:
    replicas = Replicas(tmp_path)
    yield replicas
    for each in replicas.opened:
        each.close()


def found(indexes: Indexes, collection: Collection, k: int = 5, **options: object) -> list[list[str]]:
    queries = np.random.default_rng(9).standard_normal((6, DIM)).astype(np.float32)
    outcome = indexes.search(collection, queries, SearchOptions(k, **options))  # type: ignore[arg-type]
    return [[hit.id for hit in hits] for hits in outcome.hits]


def kind_of(indexes: Indexes, collection: Collection) -> str:
    return indexes.search(collection, np.ones((1, DIM), np.float32), SearchOptions(1)).searched.kind
