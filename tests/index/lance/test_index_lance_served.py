"""Lance's index as the service keeps it up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.nearest import StoredVectors
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, FailedPrecondition, StorageError
from trunkline_service.index.card import IndexCard, Recall
from trunkline_service.index.indexes import Indexes, unheard
from trunkline_service.index.lance import tuning
from trunkline_service.index.lance.candidates import Effort
from trunkline_service.index.lance.searching import LanceSearch, Tuned
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import SearchPolicy
from trunkline_service.index.storage.store import IndexStore

DIM, ROWS = 8, 600
SPEC = CollectionSpec(space_id="sp1-a", dim=DIM, model="tiny@1", artifact_id="ar1-a", decode="exact")
never = lambda: False  # noqa: E731


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    collection = CollectionStore(tmp_path).create("points", SPEC)
    rows = [Row(f"r{number}", vector) for number, vector in enumerate(vectors())]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    return collection


@pytest.fixture
def indexes(tmp_path: Path, collection: Collection) -> Iterator[Indexes]:
    made = Indexes(tmp_path, None, SearchPolicy(1, 100))
    made.set_options(collection, IndexOptions("lance", 0.9, 5))
    yield made
    made.close()


def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)


def test_after_a_purge_it_is_made_and_measured_again(collection: Collection, indexes: Indexes) -> None:
    indexes.build(collection, unheard, never)
    assert not indexes._lance.is_due(collection)
    collection.purge(["r1"])
    indexes.purge(collection)
    indexes.keep_up(collection, never, build=False)
    # It is there, and another one than was measured.
    assert indexes.state(collection).kind == "lance"
    assert indexes.state(collection).recall is None
    assert indexes._lance.is_due(collection)
    indexes.keep_up(collection, never)
    assert indexes.state(collection).recall is not None
    assert not indexes._lance.is_due(collection)
    answer = indexes.search(collection, vectors()[:1], SearchOptions(1))
    # So few rows are compared, which needs no recall.
    assert (answer.searched.kind, answer.searched.exact, answer.searched.recall) == ("lance", True, None)
    # Too few rows to make it of are left; nothing is due for ever.
    collection.drop_vector_index()
    collection.delete([f"r{number}" for number in range(400)])
    assert not indexes._lance.is_due(collection)


def test_what_can_not_be_swept_does_not_fail_the_build(
    collection: Collection,
    indexes: Indexes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise StorageError("not permitted")

    monkeypatch.setattr(indexes._store, "sweep", refused)
    card = indexes.build(collection, unheard, never)
    assert "not permitted" in caplog.text
    state = indexes.state(collection)
    assert (state.card, state.recall) == (card, card.recall)
    assert not indexes._lance.is_due(collection)


def test_it_is_published_and_swept_under_its_lease(
    collection: Collection, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, sweep, held = IndexStore.publish, IndexStore.sweep, []

    def published(self: IndexStore, card: IndexCard, write: Any, lease: Any, *given: Any) -> IndexCard:
        held.append(not lease.lost() and self.building(card.collection, card.uid))
        return publish(self, card, write, lease, *given)

    def swept(self: IndexStore, name: str, uid: str, *given: Any, **named: Any) -> None:
        held.append(self.building(name, uid))
        sweep(self, name, uid, *given, **named)

    monkeypatch.setattr(IndexStore, "publish", published)
    monkeypatch.setattr(IndexStore, "sweep", swept)
    indexes.build(collection, unheard, never)
    assert held == [True, True]


def test_one_whose_lease_was_lost_is_not_published(collection: Collection, indexes: Indexes) -> None:
    def drop(phase: str, done: float) -> None:
        if (phase, done) == ("measure", 1.0):
            indexes._store.drop("points", collection.revision.uid)

    with pytest.raises(FailedPrecondition, match="was dropped while it was built"):
        indexes.build(collection, drop, never)
    assert indexes._store.newest("points", collection.revision.uid, SPEC) is None


def test_one_of_a_collection_that_is_gone_is_not_published(
    tmp_path: Path, collection: Collection, indexes: Indexes
) -> None:
    uid = collection.revision.uid

    def drop(phase: str, done: float) -> None:
        if (phase, done) == ("measure", 1.0):
            CollectionStore(tmp_path).drop("points")
            CollectionStore(tmp_path).create("points", SPEC)

    with pytest.raises(CollectionNotFound, match="was dropped while its index was built"):
        indexes.build(collection, drop, never)
    assert indexes._store.newest("points", uid, SPEC) is None


def test_no_recall_is_told_for_more_neighbours_than_were_measured(collection: Collection) -> None:
    card = tuning.build(collection, IndexOptions("lance", 0.9, 5), clock=lambda: 0.0)
    search = LanceSearch(collection, card.tuned, exact_rows=0)

    def told(k: int) -> Recall | None:
        outcome = search.search(vectors()[:1], SearchOptions(k))
        assert not outcome.searched.exact
        return outcome.searched.recall

    assert told(1) == told(5) == told(6) == card.tuned.recall
    assert told(7) is None


def test_measuring_asks_for_other_rows_than_tuning(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, drawn = StoredVectors.sample, []

    def noting(self: StoredVectors, count: int, seed: int) -> Any:
        found = sample(self, count, seed)
        drawn.append(set(found.row_ids.tolist()))
        return found

    monkeypatch.setattr(StoredVectors, "sample", noting)
    made = tuning.build(collection, IndexOptions("lance", 0.9, 5), clock=lambda: 0.0)
    tuning.measure(collection, made.tuned, 5, 200)
    tuned, measured = drawn
    # 200 of 600, twice.
    assert len(tuned & measured) < 120


def test_of_few_queries_little_is_said(collection: Collection) -> None:
    made = tuning.build(collection, IndexOptions("lance", 0.9, 5), clock=lambda: 0.0)
    all_ = Tuned(made.tuned.uuid, Effort(1000, 1000), None)
    few = tuning.measure(collection, all_, 1, 2)
    assert (few.measured, few.queries) == (1.0, 2)
    # Two right answers of two do not make it certain.
    assert few.low < 0.5
    assert few.low < tuning.measure(collection, all_, 5, 200).low < 1.0
