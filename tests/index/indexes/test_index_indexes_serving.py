"""Collections searched by what was built of them: every kind, for all who read, older versions too."""

from __future__ import annotations

import numpy as np
import pytest
from tests.index.indexes.conftest import DIM, ROWS, Replicas, found, kind_of

from trunkline_service.collections.collection import Collection
from trunkline_service.errors import InvalidArgument
from trunkline_service.index.calling_off import never
from trunkline_service.index.indexes import unheard
from trunkline_service.index.options import IndexOptions, WishedKind
from trunkline_service.index.query import SearchOptions

KINDS: list[WishedKind] = ["ivf_flat", "hnsw", "ivf_sq8", "ivf_pq", "lance"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_was_wished_serves_and_finds_what_comparing_all_finds(
    collection: Collection, replica: Replicas, kind: WishedKind
) -> None:
    indexes = replica()
    truth = found(indexes, collection, exact=True)
    indexes.set_options(collection, IndexOptions(kind, 1.0 if kind != "lance" else 0.9, 5))
    card = indexes.build(collection, unheard, never)
    assert card.kind == kind
    state = indexes.state(collection)
    assert (state.kind, state.rows, state.card) == (kind, ROWS, card)
    assert state.recall is not None
    assert state.recall.measured >= 0.9
    assert kind_of(indexes, collection) == kind
    same = np.mean(
        [len(set(one) & set(other)) / 5 for one, other in zip(found(indexes, collection), truth, strict=True)]
    )
    assert same >= 0.9
    assert found(indexes, collection, exact=True) == truth
    assert indexes.measure(collection, 5, 50).measured >= 0.9
    # Another process takes it from the store.
    assert kind_of(replica(), collection) == kind
    indexes.drop(collection)
    assert indexes.state(collection).kind == "flat"
    assert indexes.options(collection) == IndexOptions()
    assert found(indexes, collection) == truth
    assert kind_of(replica(), collection) == "flat"


def test_what_others_built_is_taken_over_and_what_they_dropped_is_let_go(
    collection: Collection, replica: Replicas
) -> None:
    builder, other = replica(), replica()
    assert kind_of(other, collection) == "flat"
    builder.set_options(collection, IndexOptions("ivf_flat", 0.9))
    builder.build(collection, unheard, never)
    assert kind_of(other, collection) == "flat"
    assert other.adopt(collection)
    assert kind_of(other, collection) == "ivf_flat"
    assert not other.adopt(collection)
    # What is wished is asked again after a while.
    assert other.options(collection).kind == "auto"
    replica.now += 11
    assert other.options(collection).kind == "ivf_flat"
    builder.drop(collection)
    assert other.adopt(collection)
    assert kind_of(other, collection) == "flat"


def test_older_versions_are_searched_as_they_were(collection: Collection, replica: Replicas) -> None:
    indexes, queries = replica(), np.ones((1, DIM), np.float32)
    indexes.set_options(collection, IndexOptions("ivf_flat", 1.0))
    before = collection.version
    indexes.build(collection, unheard, never)
    then = found(indexes, collection)
    collection.delete([f"r{number}" for number in range(0, ROWS, 2)])
    now = indexes.search(collection, queries, SearchOptions(1000))
    assert len(now.hits[0]) == ROWS // 2
    old = indexes.search(collection, queries, SearchOptions(1000, "label = 'l1'"), version=before)
    assert old.version == before
    assert sorted(hit.id for hit in old.hits[0]) == sorted(f"r{n}" for n in range(ROWS) if n % 5 == 1)
    again = indexes.search(
        collection,
        np.random.default_rng(9).standard_normal((6, DIM)).astype(np.float32),
        SearchOptions(5),
        version=before,
    )
    assert [[hit.id for hit in hits] for hits in again.hits] == then
    with pytest.raises(InvalidArgument, match="no version 99"):
        indexes.search(collection, queries, SearchOptions(), version=99)
    indexes.set_options(collection, IndexOptions("lance"))
    with pytest.raises(InvalidArgument, match="latest version only"):
        indexes.search(collection, queries, SearchOptions(), version=before)


def test_flat_is_flat_whatever_was_built_before(collection: Collection, replica: Replicas) -> None:
    indexes = replica()
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    indexes.build(collection, unheard, never)
    kind_of(indexes, collection)
    indexes.set_options(collection, IndexOptions("flat"))
    outcome = indexes.search(collection, np.ones((1, DIM), np.float32), SearchOptions(1))
    assert outcome.searched.exact
    assert indexes.state(collection).kind == "flat"
    indexes.keep_up(collection, never)
    assert kind_of(indexes, collection) == "flat"
    assert kind_of(replica(), collection) == "flat"
