"""A collection of one row, and views of it under a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.index.points import SPEC, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.store import CollectionStore
from trunkline_service.index.following import flat_view
from trunkline_service.index.view import View
from trunkline_service.index.views import Views


class Clock:
    """Seconds that pass when the test says so; ``then`` is done once, at the next reading."""

    def __init__(self) -> None:
        self.now = 100.0
        self.then: Callable[[], object] | None = None

    def __call__(self) -> float:
        if self.then is not None:
            then, self.then = self.then, None
            then()
        return self.now


class Loads:
    """Makes flat views; counts them."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, collection: Collection, now: Fragments) -> View:
        self.names.append(collection.name)
        return flat_view(now)


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    return CollectionStore(tmp_path)


@pytest.fixture
def collection(store: CollectionStore) -> Collection:
    made = store.create("points", SPEC)
    write(made, a=0)
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def load() -> Loads:
    return Loads()


def viewing(load: Loads, clock: Clock, refresh_s: float = 0, max_bytes: int = 10**9) -> Views:
    return Views(load, refresh_s, max_bytes, clock)


def names(view: View) -> set[str]:
    return {
        name
        for part in view.parts
        for name, alive in zip(part.segment.ids.to_pylist(), part.alive, strict=True)
        if alive
    }
