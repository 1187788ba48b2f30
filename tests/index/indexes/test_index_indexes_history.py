"""An index whose version is gone serves for rows that are those of the collection, whatever history it is of."""

from __future__ import annotations

import logging
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.index.indexes.conftest import DIM, ROWS, Replicas, kind_of, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.index.calling_off import never
from trunkline_service.index.indexes import Indexes, unheard
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.query import SearchOptions


def built(replica: Replicas, collection: Collection) -> Indexes:
    indexes = replica()
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    indexes.build(collection, unheard, never)
    return indexes


def moved(collection: Collection, count: int, first: int, to: float) -> None:
    rows = [Row(f"r{first + number}", np.full(DIM, to, np.float32), "moved") for number in range(count)]
    collection.upsert(rows, space_id="sp1-a", decode="exact")


def test_a_row_of_another_history_is_not_taken_for_one_of_the_same_number(
    tmp_path: Path, collection: Collection, replica: Replicas
) -> None:
    write(collection, ROWS, first=ROWS, seed=1)
    shutil.copytree(tmp_path / "collections", tmp_path / "backup")
    moved(collection, 50, first=0, to=1.0)
    built(replica, collection)
    shutil.rmtree(tmp_path / "collections")
    shutil.copytree(tmp_path / "backup", tmp_path / "collections")
    # The same rows, by a commit of the same number; the fragment of the others is in both histories.
    moved(collection, 50, first=0, to=-1.0)
    moved(collection, 1, first=100, to=-1.0)
    version = collection.version
    collection.compact(keep=timedelta(0))
    assert collection.version > version
    assert {each.version for each in collection.versions()}.isdisjoint(range(version))
    fresh = replica()
    assert kind_of(fresh, collection) == "ivf_flat"
    queries = np.stack([np.ones(DIM), -np.ones(DIM)]).astype(np.float32)
    for exact in (False, True):
        away, near = fresh.search(collection, queries, SearchOptions(51, exact=exact)).hits
        assert all(hit.score < 0.99 for hit in away)
        assert {hit.id for hit in near} == {*(f"r{number}" for number in range(50)), "r100"}
        assert {hit.label for hit in near} == {"moved"}


@pytest.mark.parametrize("shares", [False, True])
def test_a_healthy_index_serves_after_its_version_was_cleaned_up(
    collection: Collection, replica: Replicas, shares: bool, caplog: pytest.LogCaptureFixture
) -> None:
    indexes = built(replica, collection)
    if shares:
        write(collection, 10, first=ROWS, seed=1)
    collection.relabel({"r0": "new"})
    collection.delete(["r1"])
    collection.compact(keep=timedelta(0))
    with caplog.at_level(logging.WARNING):
        fresh = replica()
        assert kind_of(fresh, collection) == kind_of(indexes, collection) == "ivf_flat"
    assert caplog.text == ""
    # Rows that were held out of the index are read anew, beside it; all others are where they were.
    state = fresh.state(collection)
    assert state.card is not None
    assert state.deleted_rows <= 1
    assert state.delta_rows <= 11
    (hits,) = fresh.search(collection, np.ones((1, DIM), np.float32), SearchOptions(1000)).hits
    assert {hit.id: hit.label for hit in hits}["r0"] == "new"
    assert "r1" not in {hit.id for hit in hits}
