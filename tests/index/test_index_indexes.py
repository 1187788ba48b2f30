"""Collections searched by what was built of them: taken over, kept up, damaged, dropped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import CollectionNotFound, FailedPrecondition, InvalidArgument, StorageError
from trunkline_service.index.indexes import Indexes, never, unheard
from trunkline_service.index.maintainer import IndexMaintainer
from trunkline_service.index.options import IndexOptions, WishedKind
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import SearchPolicy
from trunkline_service.index.storage.store import IndexStore

DIM, ROWS = 8, 600
SPEC = CollectionSpec(space_id="sp1-a", dim=DIM, model="tiny@1", artifact_id="ar1-a", decode="exact")
KINDS: list[WishedKind] = ["ivf_flat", "hnsw", "ivf_sq8", "ivf_pq", "lance"]


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    made = CollectionStore(tmp_path).create("points", SPEC)
    write(made, ROWS, first=0)
    return made


def write(collection: Collection, count: int, first: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    rows = [Row(f"r{first + number}", vector, f"l{number % 5}") for number, vector in enumerate(vectors)]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    return vectors


class Replicas:
    """Readers of one data folder, each as if in a process of its own, with clocks of their own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.opened: list[Indexes] = []
        self.now = 0.0

    def __call__(self, flat_rows: int = 100) -> Indexes:
        self.opened.append(Indexes(self.data, None, SearchPolicy(1, flat_rows), lambda: self.now))
        return self.opened[-1]


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replicas]:
    replicas = Replicas(tmp_path)
    yield replicas
    for each in replicas.opened:
        each.close()


def found(indexes: Indexes, collection: Collection, k: int = 5, **options: object) -> list[list[str]]:
    queries = np.random.default_rng(9).standard_normal((6, DIM)).astype(np.float32)
    outcome = indexes.search(collection, queries, SearchOptions(k, **options))  # type: ignore[arg-type]
    return [[hit.id for hit in hits] for hits in outcome.hits]


def kind_of(indexes: Indexes, collection: Collection) -> str:
    return indexes.search(collection, np.ones((1, DIM), np.float32), SearchOptions(1)).searched.kind


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
    monkeypatch.setattr("trunkline_service.index.choosing.choose._Trial.best", None)
    monkeypatch.setattr(
        "trunkline_service.index.choosing.choose._Trial.run",
        lambda self, candidate: self.failures.append(f"{candidate.kind} finds too little"),
    )
    indexes.keep_up(collection, never)
    state = indexes.state(collection)
    assert state.kind == "flat"
    assert "finds too little" in state.note
    builds = []
    monkeypatch.setattr(indexes, "build", lambda *arguments: builds.append(arguments))
    indexes.keep_up(collection, never)
    assert builds == []
    write(collection, ROWS + 10, first=ROWS, seed=3)
    kind_of(indexes, collection)
    indexes.keep_up(collection, never)
    assert len(builds) == 1


@pytest.mark.parametrize("file", ["index.faiss", "vectors.f32", "rows.arrow", "fragments.json", "card.json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "gone"])
def test_a_damaged_index_is_passed_over_and_built_again(
    collection: Collection, replica: Replicas, tmp_path: Path, file: str, harm: str
) -> None:
    indexes = replica()
    truth = found(indexes, collection, exact=True)
    indexes.set_options(collection, IndexOptions("ivf_flat", 1.0))
    indexes.build(collection, unheard, never)
    (path,) = (tmp_path / "indexes").rglob(file)
    # Others map the file: it is replaced, as a disk that fails would show it to who opens it next.
    data = bytearray(path.read_bytes())
    path.unlink()
    if harm != "gone":
        data[len(data) // 2] ^= 1
        path.write_bytes(data[: len(data) // 2] if harm == "cut" else data)
    fresh = replica()
    assert found(fresh, collection) == truth
    assert kind_of(fresh, collection) == "flat"
    assert not fresh.adopt(collection)
    fresh.build(collection, unheard, never)
    assert kind_of(fresh, collection) == "ivf_flat"
    assert found(fresh, collection) == truth


def test_an_index_is_never_another_collections(
    tmp_path: Path, collection: Collection, replica: Replicas
) -> None:
    indexes = replica()
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    indexes.build(collection, unheard, never)
    store = CollectionStore(tmp_path)
    store.drop("points")
    with pytest.raises(CollectionNotFound):
        kind_of(indexes, collection)
    anew = store.create("points", SPEC)
    write(anew, 50, first=0, seed=5)
    for each in (indexes, replica()):
        assert kind_of(each, anew) == "flat"
        assert {row_id for hits in found(each, anew, k=1000) for row_id in hits} == {
            f"r{n}" for n in range(50)
        }


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


def test_a_backup_that_was_put_back_does_not_bring_rows_of_another_history(
    tmp_path: Path, collection: Collection, replica: Replicas
) -> None:
    indexes, backup = replica(), tmp_path / "backup"
    shutil.copytree(tmp_path / "collections", backup)
    collection.upsert([Row("future", np.ones(DIM, np.float32))], space_id="sp1-a", decode="exact")
    indexes.set_options(collection, IndexOptions("ivf_flat", 1.0))
    assert indexes.build(collection, unheard, never).version == collection.version
    shutil.rmtree(tmp_path / "collections")
    shutil.copytree(backup, tmp_path / "collections")
    queries = np.ones((1, DIM), np.float32)
    again = CollectionStore(tmp_path).open("points")
    for number in range(3):
        fresh = replica()
        outcome = fresh.search(again, queries, SearchOptions(1000))
        assert outcome.version == again.version
        assert {hit.id for hit in outcome.hits[0]} == set(again.find([f"r{n}" for n in range(2000)]))
        assert outcome.searched.kind == "flat"
        again.upsert([Row(f"r{1000 + number}", queries[0])], space_id="sp1-a", decode="exact")
    fresh = replica()
    fresh.build(again, unheard, never)
    assert kind_of(fresh, again) == "ivf_flat"


@pytest.mark.parametrize("harm", ["options", "folder"])
def test_what_is_wrong_with_indexes_stops_no_search(
    tmp_path: Path, collection: Collection, replica: Replicas, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexes = replica()
    truth = found(indexes, collection)
    indexes.set_options(collection, IndexOptions("ivf_flat", 1.0))
    indexes.build(collection, unheard, never)
    if harm == "options":
        (path,) = (tmp_path / "indexes").rglob("*.options.json")
        path.write_text("{")
    else:

        def fail(*_: object, **__: object) -> None:
            raise StorageError("the disk does not answer")

        monkeypatch.setattr(IndexStore, "newest", fail)
    fresh = replica()
    assert found(fresh, collection) == truth
    assert fresh.state(collection).rows == ROWS
    monkeypatch.undo()
    fresh.set_options(collection, IndexOptions("ivf_flat", 1.0))
    assert replica().options(collection).kind == "ivf_flat"


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


def test_a_purge_during_a_measurement_stays_a_purge(
    collection: Collection, replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexes = replica()
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    indexes.build(collection, unheard, never)
    kind_of(indexes, collection)
    measured = indexes._measured

    def purging(*arguments: Any) -> Any:
        answer = measured(*arguments)
        collection.purge(["r7"])
        indexes.purge(collection)
        return answer

    monkeypatch.setattr(indexes, "_measured", purging)
    monkeypatch.setattr("trunkline_service.index.indexes.is_stale", lambda view: True)
    indexes.keep_up(collection, never)
    assert indexes._searcher.views.known(collection) is None
    assert "r7" not in {row_id for hits in found(indexes, collection, k=1000) for row_id in hits}
    assert kind_of(indexes, collection) == "flat"


def test_names_that_nobody_has_are_not_remembered_and_dropped_ones_forgotten(
    tmp_path: Path, collection: Collection, replica: Replicas
) -> None:
    indexes, store = replica(), CollectionStore(tmp_path)
    for number in range(5):
        with pytest.raises(CollectionNotFound):
            kind_of(indexes, store.lookup(f"nobody{number}").collection)
    assert indexes.searched() == []
    indexes.set_options(collection, IndexOptions("ivf_flat", 0.9))
    indexes.build(collection, unheard, never)
    kind_of(indexes, collection)
    assert indexes.searched() == [collection]
    store.drop("points")
    indexes.forget_dropped("points", collection)
    assert indexes.searched() == []
    assert list((tmp_path / "indexes").rglob("*.*")) == []
    anew = store.create("points", SPEC)
    assert indexes.options(anew) == IndexOptions()


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
