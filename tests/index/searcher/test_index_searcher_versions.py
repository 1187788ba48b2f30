"""Which version a search sees: the latest, an older one, one of another collection of the name."""

from __future__ import annotations

import dataclasses
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.index.points import SPEC, at, write
from tests.index.searcher.conftest import ids, search

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, InvalidArgument
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import Searcher, SearchPolicy


def test_every_commit_is_found_by_the_next_search(
    store: CollectionStore, collection: Collection, searcher: Searcher
) -> None:
    write(collection, a=0)
    assert ids(searcher, collection, 0) == [["a"]]
    write(CollectionStore(Path(collection.key).parent.parent).open("points"), b=1)
    assert ids(searcher, collection, 0) == [["a", "b"]]
    write(collection, a=180)
    assert ids(searcher, collection, 0, k=1) == [["b"]]
    collection.relabel({"b": "new"})
    assert search(searcher, collection, 0, k=1).hits[0][0].label == "new"
    collection.delete(["b"])
    assert ids(searcher, collection, 0) == [["a"]]
    store.drop("points")
    with pytest.raises(CollectionNotFound):
        ids(searcher, collection, 0)
    write(store.create("points", SPEC), z=0)
    assert ids(searcher, collection, 0) == [["z"]]


def test_within_the_refresh_interval_only_a_min_version_asks_for_more(collection: Collection) -> None:
    seconds = [0.0]
    searcher = Searcher(SearchPolicy(refresh_s=5), clock=lambda: seconds[0])
    write(collection, a=0)
    assert ids(searcher, collection, 0) == [["a"]]
    write(collection, b=1)
    assert ids(searcher, collection, 0) == [["a"]]
    assert ids(searcher, collection, 0, where="true") == [["a"]]
    assert ids(searcher, collection, 0, min_version=collection.version) == [["a", "b"]]
    write(collection, c=2)
    seconds[0] = 5
    assert ids(searcher, collection, 0) == [["a", "b", "c"]]


@pytest.mark.parametrize("how", [{"where": "label = 'b'"}, {"group_by": "split"}])
def test_a_version_that_was_removed_since_its_view_was_made_is_not_needed(
    collection: Collection, how: dict[str, Any]
) -> None:
    searcher = Searcher(SearchPolicy(refresh_s=1000), clock=lambda: 0.0)
    write(collection, a=0, b=1)
    ids(searcher, collection, 0)
    write(collection, b=170, b2=171)
    collection.compact(keep=timedelta(0))
    expected = ["b", "b2"] if "where" in how else ["a", "b", "b2"]
    assert ids(searcher, collection, 0, **how) == [expected]
    with pytest.raises(InvalidArgument, match="colour"):
        ids(searcher, collection, 0, where="colour = 'red'")


@pytest.mark.parametrize("how", [{"where": "label = 'a'"}, {"group_by": "split", "k": 9}])
@pytest.mark.parametrize("versions", [1, 4, 6])
def test_another_collection_of_the_name_is_never_mixed_with_the_one_that_was(
    store: CollectionStore, collection: Collection, how: dict[str, Any], versions: int
) -> None:
    searcher = Searcher(SearchPolicy(refresh_s=1000), clock=lambda: 0.0)
    for number in range(4):
        write(collection, a1=number, a2=1, b1=2)
    ids(searcher, collection, 0)
    old = collection.version
    store.drop("points")
    anew = store.create("points", SPEC)
    for _ in range(versions):
        write(anew, b1=0, a1=90)
    assert (anew.version > old) - (anew.version < old) == (versions > 4) - (versions < 4)
    assert ids(searcher, collection, 0, **how) == [["a1"] if "where" in how else ["b1", "a1"]]


def test_queries_for_the_new_collection_of_the_name_are_answered_by_it(
    store: CollectionStore, collection: Collection
) -> None:
    searcher = Searcher(SearchPolicy(refresh_s=1000), clock=lambda: 0.0)
    write(collection, a=0)
    ids(searcher, collection, 0)
    store.drop("points")
    anew = store.create("points", dataclasses.replace(SPEC, dim=3, space_id="sp1-b"))
    anew.upsert([Row("z", np.ones(3, np.float32))], space_id="sp1-b", decode="exact")
    outcome = searcher.search(anew, np.ones((1, 3), np.float32), SearchOptions(), space_id="sp1-b")
    assert [hit.id for hit in outcome.hits[0]] == ["z"]
    assert (outcome.space_id, outcome.version) == ("sp1-b", anew.version)


def test_an_older_version_is_searched_as_it_was(collection: Collection, searcher: Searcher) -> None:
    write(collection, a=0, b=1)
    old = collection.version
    write(collection, a=180)
    collection.relabel({"b": "new"})

    def then(**options: Any) -> list[str]:
        found = searcher.search(collection, at(0), SearchOptions(**options), version=old)
        assert found.version == old
        return [hit.id for hit in found.hits[0]]

    assert then() == ["a", "b"]
    assert then(where="label = 'b'") == ["b"]
    assert then(group_by="label") == ["a", "b"]
    assert ids(searcher, collection, 0) == [["b", "a"]]
    with pytest.raises(InvalidArgument, match="no version 99"):
        searcher.search(collection, at(0), SearchOptions(), version=99)


def test_searches_during_writes_see_all_that_was_committed_before(
    collection: Collection, searcher: Searcher
) -> None:
    committed: list[str] = []
    missed: list[set[str]] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def search_on() -> None:
        try:
            while not done.is_set():
                before = set(committed)
                missed.append(before - set(ids(searcher, collection, 0, k=100)[0]))
        except BaseException as exc:
            failed.append(exc)
            raise

    readers = [threading.Thread(target=search_on) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(15):
        write(collection, **{f"n{number}": float(number)})
        committed.append(f"n{number}")
        if number == 8:
            collection.compact()
    done.set()
    for reader in readers:
        reader.join()
    assert not failed
    assert missed
    assert not set.union(*missed)
    assert len(ids(searcher, collection, 0, k=100)[0]) == 15
