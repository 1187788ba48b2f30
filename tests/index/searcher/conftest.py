"""A searcher of collections, and what it is asked here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.index.points import SPEC, at

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.store import CollectionStore
from trunkline_service.index.outcome import SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import Searcher, SearchPolicy


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    return CollectionStore(tmp_path)


@pytest.fixture
def collection(store: CollectionStore) -> Collection:
    return store.create("points", SPEC)


@pytest.fixture
def searcher() -> Iterator[Searcher]:
    made = Searcher(SearchPolicy())
    yield made
    made.close()


def search(
    searcher: Searcher,
    collection: Collection,
    *degrees: float,
    exclude_ids: list[str | None] | None = None,
    **options: Any,
) -> SearchOutcome:
    return searcher.search(collection, at(*degrees), SearchOptions(**({"k": 3} | options)), exclude_ids)


def ids(searcher: Searcher, collection: Collection, *degrees: float, **options: Any) -> list[list[str]]:
    outcome = search(searcher, collection, *degrees, **options)
    return [[hit.id for hit in hits] for hits in outcome.hits]
