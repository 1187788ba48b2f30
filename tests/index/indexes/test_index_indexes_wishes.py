"""What is wished is of one collection, what is dropped comes again when it is due, and the log says so."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.index.indexes.conftest import DIM, ROWS, SPEC, Replicas, kind_of, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import Cancelled, FailedPrecondition
from trunkline_service.index.calling_off import never
from trunkline_service.index.indexes import unheard
from trunkline_service.index.maintainer import IndexMaintainer
from trunkline_service.index.options import IndexOptions, WishedKind
from trunkline_service.index.query import SearchOptions


def test_a_wish_is_not_another_collections_of_the_name(
    tmp_path: Path, collection: Collection, replica: Replicas
) -> None:
    indexes, store = replica(), CollectionStore(tmp_path)
    indexes.set_options(collection, IndexOptions("lance", 0.5))
    indexes.build(collection, unheard, never)
    assert kind_of(indexes, collection) == "lance"
    # By another process, within the ten seconds that a wish is known.
    store.drop("points")
    anew = store.create("points", SPEC)
    write(anew, 50, first=0, seed=5)
    before = anew.version
    write(anew, 50, first=50, seed=6)
    outcome = indexes.search(anew, np.ones((1, DIM), np.float32), SearchOptions(1), version=before)
    assert outcome.version == before
    assert indexes.options(anew) == IndexOptions()
    assert kind_of(indexes, anew) == "flat"


def test_after_a_drop_a_server_builds_again_once_the_collection_is_searched(
    collection: Collection, replica: Replicas
) -> None:
    indexes = replica(flat_rows=100)
    maintainer = IndexMaintainer(indexes)
    write(collection, 1000, first=ROWS, seed=1)
    kind_of(indexes, collection)
    maintainer.look()
    assert indexes.state(collection).card is not None
    indexes.drop(collection)
    note = indexes.state(collection).note
    assert note == (
        "every row is compared until an index is built, by a server once it searches the collection, or when it "
        "is told to"
    )
    maintainer.look()
    assert indexes.state(collection).card is None
    assert kind_of(indexes, collection) == "flat"
    maintainer.look()
    assert indexes.state(collection).card is not None


def test_the_log_has_a_line_for_what_becomes_of_an_index(
    collection: Collection, replica: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trunkline_service.index.indexes")
    indexes = replica()
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    kind_of(indexes, collection)
    card = indexes.build(collection, unheard, never)
    assert card.recall is not None
    recall = f"recall@{card.recall.k} {card.recall.measured:.4f}"
    assert [record.getMessage() for record in caplog.records] == [
        "index of points: building ivf_flat",
        f"index of points: {card.build} serves now",
        f"index of points: built ivf_flat of version {card.version}, {recall}, in {card.seconds:.1f} s; "
        f"{card.reason}",
    ]
    caplog.clear()
    with pytest.raises(Cancelled):
        indexes.build(collection, unheard, lambda: True)
    with indexes._store.lease("points", collection.revision.uid), pytest.raises(FailedPrecondition):
        indexes.build(collection, unheard, never)
    indexes.drop(collection)
    lines = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith("index of points: not built: ") for line in lines) == 2
    assert lines[-1] == "index of points: dropped"


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "lance"])
def test_what_is_called_off_is_not_answered(
    collection: Collection, replica: Replicas, kind: WishedKind
) -> None:
    indexes, queries = replica(), np.ones((2, DIM), np.float32)
    indexes.set_options(collection, IndexOptions(kind, 0.5))
    if kind != "flat":
        indexes.build(collection, unheard, never)
    gone = threading.Event()
    for options in (SearchOptions(5), SearchOptions(5, group_by="label"), SearchOptions(5, collapse=0.9)):
        assert indexes.search(collection, queries, options, cancelled=gone.is_set).hits[0]
    gone.set()
    with pytest.raises(Cancelled, match="the search was called off; nothing was answered"):
        indexes.search(collection, queries, SearchOptions(5), cancelled=gone.is_set)
    with pytest.raises(Cancelled):
        indexes.measure(collection, 5, 50, gone.is_set)


@pytest.mark.parametrize("kind", ["flat", "lance"])
@pytest.mark.parametrize("options", [SearchOptions(5), SearchOptions(5, collapse=0.9, exact=True)])
def test_what_is_called_off_midway_is_not_answered(
    collection: Collection, replica: Replicas, kind: WishedKind, options: SearchOptions
) -> None:
    indexes, queries = replica(), np.ones((2, DIM), np.float32)
    indexes.set_options(collection, IndexOptions(kind, 0.5))
    asked: list[bool] = []

    def counted() -> bool:
        asked.append(True)
        return False

    indexes.search(collection, queries, options, cancelled=counted)
    assert len(asked) > 2
    for most in range(len(asked)):
        left = iter(range(most))
        with pytest.raises(Cancelled):
            indexes.search(collection, queries, options, cancelled=lambda left=left: next(left, None) is None)
