"""The searcher: refusals, exclusion, conditions, and threads that search while others write."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.matrix import EmbeddingMatrix
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument
from trunkline_service.index import searcher as searcher_module
from trunkline_service.index.flat import FlatIndex
from trunkline_service.index.searcher import Searcher

SPEC = CollectionSpec(space_id="sp1-a", dim=2, model="tiny@1", artifact_id="ar1-a", decode="exact")


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    return CollectionStore(tmp_path)


@pytest.fixture
def collection(store: CollectionStore) -> Collection:
    return store.create("points", SPEC)


def write(collection: Collection, **degrees: float) -> None:
    rows = [Row(name, at(angle)[0], label=name[0], source=f"{name}.jpg") for name, angle in degrees.items()]
    collection.upsert(rows, space_id="sp1-a", decode="exact")


def at(*degrees: float) -> NDArray[np.float32]:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def ids(
    searcher: Searcher, collection: Collection, *degrees: float, k: int = 3, **options: Any
) -> list[list[str]]:
    outcome = searcher.search(collection, at(*degrees), k, **options)
    return [[hit.id for hit in hits] for hits in outcome.hits]


def test_hits_carry_what_the_row_says(collection: Collection) -> None:
    write(collection, a1=0, b1=60, a2=90)
    outcome = Searcher(1).search(collection, at(50), 2)
    assert (outcome.version, outcome.metric, outcome.space_id) == (collection.version, "cosine", "sp1-a")
    nearest, second = outcome.hits[0]
    assert (nearest.id, nearest.label, nearest.source) == ("b1", "b", "b1.jpg")
    assert nearest.score == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-6)
    assert second.id == "a2"


def test_an_empty_collection_and_one_of_errors_have_no_hits(collection: Collection) -> None:
    searcher = Searcher(1)
    assert ids(searcher, collection, 0, 90) == [[], []]
    collection.upsert([Row("a", None, status="error", error="why")], space_id="sp1-a", decode="exact")
    assert ids(searcher, collection, 0, where="id is not null") == [[]]
    assert searcher.search(collection, np.empty((0, 2), np.float32), 3).hits == []


def test_conditions_and_exclusion_leave_k_hits(collection: Collection) -> None:
    write(collection, a1=0, a2=10, b1=20, b2=30, a3=40)
    searcher = Searcher(1)
    assert ids(searcher, collection, 0, where="label = 'b'") == [["b1", "b2"]]
    assert ids(searcher, collection, 0, k=2, exclude_ids=["a1"]) == [["a2", "b1"]]
    assert ids(searcher, collection, 0, 40, k=2, exclude_ids=[None, "a3"]) == [["a1", "a2"], ["b2", "b1"]]
    assert ids(searcher, collection, 0, k=2, exclude_ids=["absent"]) == [["a1", "a2"]]
    assert ids(searcher, collection, 0, where="label = 'a'", exclude_ids=["a1"]) == [["a2", "a3"]]
    assert ids(searcher, collection, 0, where="label = 'c'") == [[]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 1001}, "1 to 1000"),
        ({"queries": np.zeros((1, 3), np.float32)}, r"\(Q, 2\)"),
        ({"queries": np.zeros(2, np.float32)}, r"\(2,\)"),
        ({"queries": np.zeros((1, 2))}, "float64"),
        ({"queries": np.array([[0, 0], [np.nan, 0]], np.float32)}, "query 1 holds NaN"),
        ({"exclude_ids": []}, "0 entries for 1 queries"),
        ({"where": "colour = 'red'"}, "The columns are id, "),
    ],
)
def test_what_cannot_be_used_is_refused(
    collection: Collection, arguments: dict[str, Any], words: str
) -> None:
    write(collection, a=0)
    with pytest.raises(InvalidArgument, match=words):
        Searcher(1).search(collection, **{"queries": at(0), "k": 1} | arguments)


def test_k_of_1000_works_with_an_exclusion(collection: Collection) -> None:
    write(collection, a=0, b=1)
    assert ids(Searcher(1), collection, 0, k=1000, exclude_ids=["a"]) == [["b"]]


def test_every_commit_is_found_by_the_next_search(store: CollectionStore, collection: Collection) -> None:
    searcher = Searcher(1)
    write(collection, a=0)
    assert ids(searcher, collection, 0) == [["a"]]
    write(CollectionStore(Path(collection.key).parent.parent).open("points"), b=1)
    assert ids(searcher, collection, 0) == [["a", "b"]]
    write(collection, a=180)
    assert ids(searcher, collection, 0, k=1) == [["b"]]
    collection.delete(["b"])
    assert ids(searcher, collection, 0) == [["a"]]
    store.drop("points")
    write(store.create("points", SPEC), z=0)
    assert ids(searcher, collection, 0) == [["z"]]


def test_an_unchanged_collection_is_read_once(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = counted(monkeypatch)
    searcher = Searcher(1)
    write(collection, a=0)
    for _ in range(3):
        ids(searcher, collection, 0)
    assert reads() == 1


def test_the_collections_searched_longest_ago_leave_memory_first(
    store: CollectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = counted(monkeypatch)
    collections = [store.create(name, SPEC) for name in ("one", "two", "three")]
    for collection in collections:
        write(collection, a=0, b=1)
    searcher = Searcher(1, max_bytes=2 * 2 * 2 * 4)
    one, two, three = collections
    for collection in (one, two, one, three, one):
        ids(searcher, collection, 0)
    assert reads() == 3
    ids(searcher, two, 0)
    assert reads() == 4


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[FlatIndex]]:
    """The indexes that were built, as long as something holds them."""
    made: list[weakref.ref[FlatIndex]] = []

    def build(*arguments: Any) -> FlatIndex:
        index = FlatIndex(*arguments)
        made.append(weakref.ref(index))
        return index

    monkeypatch.setattr(searcher_module, "FlatIndex", build)
    return made


def test_what_is_forgotten_is_let_go_at_once_and_read_anew(
    store: CollectionStore, collection: Collection, built: list[weakref.ref[FlatIndex]]
) -> None:
    other = store.create("other", SPEC)
    searcher = Searcher(1)
    for each in (collection, other):
        write(each, a=0, b=90)
        ids(searcher, each, 0)
    searcher.forget(collection)
    gc.collect()
    assert [index() is None for index in built] == [True, False]
    assert ids(searcher, collection, 0) == ids(searcher, other, 0) == [["a", "b"]]
    assert len(built) == 3
    for _ in range(2):
        searcher.forget(collection)


def test_a_build_under_way_is_forgotten_too(
    collection: Collection, built: list[weakref.ref[FlatIndex]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(collection, secret=0, other=90)
    searcher = Searcher(1)
    read, go_on = threading.Event(), threading.Event()
    texts = EmbeddingMatrix.without_embeddings

    def slow(self: EmbeddingMatrix) -> EmbeddingMatrix:
        found = texts(self)
        read.set()
        assert go_on.wait(30)
        return found

    monkeypatch.setattr(EmbeddingMatrix, "without_embeddings", slow)
    searching = threading.Thread(target=lambda: ids(searcher, collection, 0))
    searching.start()
    assert read.wait(30)
    collection.purge(["secret"])
    forgetting = threading.Thread(target=lambda: searcher.forget(collection))
    forgetting.start()
    go_on.set()
    searching.join(30)
    forgetting.join(30)
    gc.collect()
    assert [index() for index in built] == [None]
    assert ids(searcher, collection, 0) == [["other"]]


def test_a_multi_label_collection_gives_tuples(store: CollectionStore) -> None:
    collection = store.create("many", dataclasses.replace(SPEC, multi_label=True))
    rows = [Row("a", at(0)[0], ("x", "y")), Row("b", at(30)[0], ()), Row("c", at(60)[0], None)]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    (hits,) = Searcher(1).search(collection, at(0), 3).hits
    assert [hit.label for hit in hits] == [("x", "y"), (), None]


def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    calls: list[str] = []
    matrix = Collection.matrix

    def counting(self: Collection, *arguments: Any, **options: Any) -> Any:
        calls.append(self.name)
        return matrix(self, *arguments, **options)

    monkeypatch.setattr(Collection, "matrix", counting)
    return lambda: len(calls)


def test_searches_during_writes_see_all_that_was_committed_before(collection: Collection) -> None:
    searcher = Searcher(1)
    committed: list[str] = []
    missed: list[set[str]] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            before = set(committed)
            missed.append(before - set(ids(searcher, collection, 0, k=100)[0]))

    readers = [threading.Thread(target=search) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(15):
        write(collection, **{f"n{number}": float(number)})
        committed.append(f"n{number}")
    done.set()
    for reader in readers:
        reader.join()
    assert missed
    assert not set.union(*missed)
    assert len(ids(searcher, collection, 0, k=100)[0]) == 15
