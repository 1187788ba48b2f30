"""Indexes are built, measured and built again as their collections grow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.index.indexes.conftest import DIM, ROWS, SPEC, Replicas, kind_of, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import FailedPrecondition, StorageError
from trunkline_service.index.calling_off import never
from trunkline_service.index.indexes import unheard
from trunkline_service.index.maintainer import IndexMaintainer
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.query import SearchOptions


def test_a_worn_index_is_built_again_and_a_grown_one_measured_again(
    collection: Collection, replica: Replicas
) -> None:
    indexes = replica()
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    first = indexes.build(collection, unheard, never)
    kind_of(indexes, collection)
    write(collection, 300, first=ROWS, seed=1)
    indexes.keep_up(collection, never)
    state = indexes.state(collection)
    assert (state.card, state.delta_rows, state.rows) == (first, 300, ROWS + 300)
    write(collection, 1200, first=2 * ROWS, seed=2)
    indexes.search(collection, np.ones((1, DIM), np.float32), SearchOptions())
    indexes.keep_up(collection, never)
    state = indexes.state(collection)
    assert state.card is not None
    assert state.card.build != first.build
    assert (state.delta_rows, state.deleted_rows, state.rows) == (0, 0, ROWS + 300 + 1200)


def test_where_nothing_reaches_the_recall_all_are_compared_and_it_is_not_tried_for_ever(
    collection: Collection, replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexes = replica()
    kind_of(indexes, collection)
    monkeypatch.setattr("trunkline_service.index.choosing.trial.Trial.best", None)
    monkeypatch.setattr(
        "trunkline_service.index.choosing.trial.Trial.run",
        lambda self, candidate: self.failures.append(f"{candidate.kind} finds too little"),
    )
    indexes.keep_up(collection, never)
    state = indexes.state(collection)
    assert state.kind == "flat"
    assert "finds too little" in state.note
    builds = []
    monkeypatch.setattr(indexes, "_built", lambda *arguments: builds.append(arguments))
    indexes.keep_up(collection, never)
    assert builds == []
    write(collection, ROWS + 10, first=ROWS, seed=3)
    kind_of(indexes, collection)
    indexes.keep_up(collection, never)
    assert len(builds) == 1


def test_a_kind_that_was_wished_is_built_once_there_are_enough_rows(
    tmp_path: Path, replica: Replicas
) -> None:
    few = CollectionStore(tmp_path).create("few", SPEC)
    write(few, 20, first=0)
    indexes = replica(flat_rows=100_000)
    indexes.set_options(few, IndexOptions("ivf_flat", 0.9))
    kind_of(indexes, few)
    assert indexes.build(few, unheard, never).kind in ("flat", "ivf_flat")
    write(few, 3000, first=20)
    kind_of(indexes, few)
    indexes.keep_up(few, never, build=False)
    assert indexes.state(few).rows == 3020
    indexes.keep_up(few, never)
    assert kind_of(indexes, few) == "ivf_flat"


class Once:
    """Waits for so many rounds, then says that it is over."""

    def __init__(self, rounds: int) -> None:
        self.left = rounds

    def __call__(self, seconds: float) -> bool:
        self.left -= 1
        return self.left < 0


def test_the_maintainer_looks_after_what_is_searched_and_leaves_failures_alone_for_a_while(
    collection: Collection,
    replica: Replicas,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    indexes = replica()
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    kind_of(indexes, collection)
    tried = []

    def fail(*arguments: object) -> None:
        tried.append(arguments)
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(indexes, "keep_up", fail)
        maintainer = IndexMaintainer(indexes, Once(14))
        maintainer.start()
        maintainer._thread.join(60)
        # What others built is taken over in each round.
        assert [build for *_, build in tried] == [True, *[False] * 12, True]
        assert "the disk is full" in caplog.text
    write(collection, 1000, first=ROWS, seed=4)
    kind_of(indexes, collection)
    maintainer = IndexMaintainer(indexes, Once(1))
    maintainer.start()
    maintainer._thread.join(60)
    assert kind_of(indexes, collection) == "ivf_flat"
    maintainer.stop()


def test_two_builders_at_once_make_one_index(
    collection: Collection, replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = replica(), replica()
    one.set_options(collection, IndexOptions("ivf_flat", 0.9))
    refused = []

    def heard(phase: str, done: float) -> None:
        if not refused:
            with pytest.raises(FailedPrecondition, match="being built") as error:
                other.build(collection, unheard, never)
            refused.append(error)
            assert one.state(collection).building

    one.build(collection, heard, never)
    assert refused
    assert not one.state(collection).building
