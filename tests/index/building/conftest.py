"""A collection of some hundreds of rows in clusters, and how it is built here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.index.building.builder import build
from trunkline_service.index.card import IndexCard
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.storage.store import IndexStore

DIM, ROWS = 8, 600
SPACE = "sp1-a"


def rows_of(positions: range, error_every: int = 0) -> list[Row]:
    """Row ``id<i>``, whose vector is near one of twelve."""
    centres = np.random.default_rng(1).normal(size=(12, DIM))
    rows = []
    for i in positions:
        if error_every and i % error_every == 0:
            rows.append(Row(f"id{i}", None, status="error", error="no image"))
            continue
        vector = centres[i % 12] + 0.3 * np.random.default_rng(i).normal(size=DIM)
        rows.append(Row(f"id{i}", vector.astype(np.float32), label=f"c{i % 12}", source=f"{i}.jpg"))
    return rows


def write(collection: Collection, positions: range, error_every: int = 0) -> None:
    collection.upsert(rows_of(positions, error_every), space_id=SPACE, decode="exact")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def collections(data: Path) -> CollectionStore:
    return CollectionStore(data)


@pytest.fixture
def empty(collections: CollectionStore) -> Collection:
    spec = CollectionSpec(space_id=SPACE, dim=DIM, model="tiny@1", artifact_id="ar1-a", decode="exact")
    return collections.create("flowers", spec)


@pytest.fixture
def collection(empty: Collection) -> Collection:
    write(empty, range(ROWS))
    return empty


@pytest.fixture
def store(data: Path) -> IndexStore:
    return IndexStore(data)


@pytest.fixture
def built(store: IndexStore) -> Callable[..., IndexCard]:
    """``built(collection)``: builds an IVF; what is given goes to `build`."""

    def make(collection: Collection, **changes: Any) -> IndexCard:
        given: dict[str, Any] = {
            "store": store,
            "options": IndexOptions("ivf_flat", recall=0.8),
            "flat_rows": 100,
            "threads": 1,
            "clock": iter(range(10**9)).__next__,
        }
        return build(collection, **{**given, **changes})

    return make
