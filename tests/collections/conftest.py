"""A store in a temporary folder, with a clock that stands still."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def spec() -> CollectionSpec:
    return CollectionSpec(space_id="sp1-a", dim=4, model="tiny@1", artifact_id="ar1-a", decode="exact")


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    return CollectionStore(tmp_path / "data", clock=lambda: NOON)


@pytest.fixture
def collection(store: CollectionStore, spec: CollectionSpec) -> Collection:
    return store.create("flowers", spec)
