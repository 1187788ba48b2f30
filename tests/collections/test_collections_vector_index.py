"""Lance's own index of the vectors: whatever is written after it was made, the nearest rows are the right ones."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import lance
import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import METRICS, CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.collections.vector_index import FEWEST_ROWS, NAME, default_sub_vectors
from trunkline_service.errors import Cancelled, InvalidArgument, NotEnoughData, TrunklineError

DIM = 8
NOW = timedelta(0)
ALL = {"nprobes": 1000, "refine_factor": 1000}


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    # A day ahead: Lance dates versions by the machine's clock, and all of them are then old.
    return CollectionStore(tmp_path, clock=lambda: datetime.now(UTC) + timedelta(days=1))


def spec(metric: str = "cosine", dtype: Any = "float32") -> CollectionSpec:
    return CollectionSpec("sp1-a", DIM, "tiny@1", "ar1-a", "exact", metric=metric, dtype=dtype)


def rows(names: list[str], chance: np.random.Generator, **values: Any) -> list[Row]:
    vectors = chance.standard_normal((len(names), DIM)).astype(np.float32)
    return [Row(name, vector, **values) for name, vector in zip(names, vectors, strict=True)]


def write(collection: Collection, written: list[Row]) -> int:
    return collection.upsert(written, space_id="sp1-a", decode="exact")


def filled(
    store: CollectionStore, metric: str = "cosine", dtype: Any = "float32", count: int = 600
) -> Collection:
    collection = store.create("flowers", spec(metric, dtype))
    names = [f"r{number}" for number in range(count)]
    made = rows(names, np.random.default_rng(0))
    labelled = [Row(row.id, row.embedding, label="abc"[number % 3]) for number, row in enumerate(made)]
    write(collection, labelled)
    return collection


def scores(vectors: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    vectors, query = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        return -np.linalg.norm(vectors - query, axis=1)
    products = vectors @ query
    return products if metric == "dot" else products / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)


def assert_right(collection: Collection, metric: str = "cosine", k: int = 10) -> None:
    """The nearest rows, with and without a condition, are those of brute force over what there is."""
    chance = np.random.default_rng(collection.version)
    stored = collection.stored_vectors()
    for where in (None, "label = 'a'"):
        matrix = collection.matrix(where)
        if not len(matrix):
            continue
        near = matrix.embeddings[chance.integers(0, len(matrix), 2)]
        queries = np.vstack([near, chance.standard_normal((2, DIM))]).astype(np.float32)
        ids = np.array(matrix.ids.to_pylist())
        found = stored.nearest(queries, k, where, **ALL, columns=("id", "label"))
        assert len(found) == len(queries)
        for query, answer in zip(queries, found, strict=True):
            order = np.argsort(-scores(matrix.embeddings, query, metric), kind="stable")[:k]
            assert sorted(answer.rows.column("id").to_pylist()) == sorted(ids[order].tolist())
            assert set(answer.row_ids.tolist()) == set(matrix.row_ids[order].tolist())
            for name, vector in zip(answer.rows.column("id").to_pylist(), answer.embeddings, strict=True):
                assert (vector == matrix.embeddings[ids == name][0]).all()


# Right, whatever happens -------------------------------------------------------------------------------------


def steps(collection: Collection, random: Random) -> Iterator[None]:
    chance = np.random.default_rng(random.randrange(2**32))
    for number in range(12):
        ids = collection.matrix().ids.to_pylist()
        some = random.sample(ids, min(len(ids), random.choice([1, 20, 150])))
        kind = random.choice(
            [
                "insert",
                "move",
                "delete",
                "relabel",
                "relabel_where",
                "fail",
                "compact",
                "remove",
                "restore",
                "index",
                "stale",
                "purge",
                "drop",
            ]
        )
        if kind == "insert":
            write(collection, rows([f"n{number}-{at}" for at in range(40)], chance, label="a"))
        elif kind == "move":
            write(collection, rows(some, chance, label="b"))
        elif kind == "delete":
            collection.delete(some)
        elif kind == "relabel":
            collection.relabel(dict.fromkeys(some, "a"))
        elif kind == "relabel_where":
            collection.relabel_where("a", "label = 'b' AND id < 'r3'")
        elif kind == "fail" and some:
            write(collection, [Row(some[0], None, status="error", error="gone")])
        elif kind in {"compact", "remove"}:
            collection.compact(None if kind == "compact" else NOW)
        elif kind == "restore":
            collection.restore(random.choice(collection.versions()).version)
        elif kind == "purge":
            collection.purge(some[:3])
        elif kind == "drop":
            collection.drop_vector_index()
        elif kind == "index" and len(ids) >= FEWEST_ROWS:
            collection.create_vector_index()
        elif kind == "stale" and len(ids) >= FEWEST_ROWS:
            # Made of a version that another writer has gone beyond.
            snapshot = collection._handle.open()
            write(collection, rows(some, chance, label="c"))
            collection.delete(ids[:5])
            snapshot.dataset.create_index(
                "embedding",
                "IVF_PQ",
                name=NAME,
                metric="cosine",
                num_partitions=2,
                num_sub_vectors=4,
                replace=True,
            )
        yield


@pytest.mark.parametrize("seed", range(6))
def test_after_any_sequence_of_writes_the_nearest_rows_are_right(store: CollectionStore, seed: int) -> None:
    collection = filled(store)
    collection.create_vector_index(partitions=2)
    assert_right(collection)
    for _ in steps(collection, Random(seed)):
        assert_right(collection)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_and_float_is_compared_as_the_collection_says(
    store: CollectionStore, metric: str, dtype: Any
) -> None:
    collection = filled(store, metric, dtype)
    collection.create_vector_index()
    write(collection, rows(["new", "r5"], np.random.default_rng(1), label="a"))
    collection.delete(["r7"])
    # Half floats are compared as such by Lance: the tenth may be another of nearly the same score.
    stored, matrix = collection.stored_vectors(), collection.matrix()
    query = np.random.default_rng(2).standard_normal((1, DIM)).astype(np.float32)
    (found,) = stored.nearest(query, 20, **ALL)
    best = matrix.row_ids[np.argsort(-scores(matrix.embeddings, query[0], metric))][:10]
    assert set(best.tolist()) <= set(found.row_ids.tolist())


def test_writers_at_work_double_and_lose_nothing_while_the_index_is_made(store: CollectionStore) -> None:
    collection = filled(store)
    start = threading.Barrier(3)

    def work(writer: int) -> list[str]:
        chance = np.random.default_rng(writer)
        start.wait()
        for turn in range(10):
            write(collection, rows([f"shared{at}" for at in range(5)] + [f"{writer}-{turn}"], chance))
        return [f"{writer}-{turn}" for turn in range(10)]

    with ThreadPoolExecutor(2) as pool:
        working = [pool.submit(work, writer) for writer in range(2)]
        start.wait()
        while not all(writer.done() for writer in working):
            collection.create_vector_index()
            collection.compact(None)
        written = [name for writer in working for name in writer.result()]
    found = Counter(name for batch in collection.scan(["id"]) for name in batch.column("id").to_pylist())
    expected = {*(f"shared{at}" for at in range(5)), *(f"r{at}" for at in range(600)), *written}
    assert found == Counter(expected)
    assert_right(collection)


# What it says of itself --------------------------------------------------------------------------------------


def test_it_says_what_it_holds_and_what_was_written_since(store: CollectionStore) -> None:
    collection = filled(store)
    assert collection.vector_index() is None
    assert collection.drop_vector_index() is False
    version = collection.version
    heard: list[tuple[str, float]] = []
    made = collection.create_vector_index(progress=lambda phase, done: heard.append((phase, done)))
    assert collection.vector_index() == made
    assert (made.built_from, made.rows, made.unindexed) == (version, 600, 0)
    assert made.sub_vectors == default_sub_vectors(DIM) == 2
    assert made.nbytes > 600 * 2
    assert {phase for phase, _ in heard} == {"train partitions", "train codes", "encode", "write"}
    assert all(0.0 <= done <= 1.0 for _, done in heard)
    write(collection, rows(["r0", "r1", "new"], np.random.default_rng(1)))
    collection.delete(["r9"])
    changed = collection.vector_index()
    assert changed is not None
    assert (changed.uuid, changed.rows, changed.unindexed) == (made.uuid, 597, 3)
    # What lies beside it is merged, and not into what it holds.
    for number in range(4):
        write(collection, rows([f"m{number}"], np.random.default_rng(number)))
    collection.compact(None)
    assert collection.fragment_count() == 2
    assert collection.vector_index(version) is None
    again = collection.create_vector_index()
    assert (again.rows, again.unindexed) == (604, 0)
    assert again.uuid != made.uuid
    assert collection.drop_vector_index() is True
    assert collection.vector_index() is None


def test_what_can_not_be_made_is_refused_and_nothing_changed(store: CollectionStore) -> None:
    collection = filled(store, count=FEWEST_ROWS - 1)
    version = collection.version
    with pytest.raises(NotEnoughData, match="has 255 rows with a vector"):
        collection.create_vector_index()
    write(collection, rows(["more", "and more"], np.random.default_rng(1)))
    with pytest.raises(InvalidArgument, match="partitions is 0"):
        collection.create_vector_index(partitions=0)
    with pytest.raises(InvalidArgument, match="sub_vectors is 3; it must divide"):
        collection.create_vector_index(sub_vectors=3)
    with pytest.raises(Cancelled, match="nothing was changed"):
        collection.create_vector_index(cancelled=lambda: True)
    assert collection.version == version + 1
    assert collection.vector_index() is None


@pytest.mark.parametrize(
    ("dim", "bytes_"),
    [(128, 32), (384, 96), (768, 96), (1000, 125), (130, 26), (7, 1), (131, 131), (2, 1), (1, 1)],
)
def test_a_row_takes_a_quarter_of_a_byte_a_float_or_so(dim: int, bytes_: int) -> None:
    assert default_sub_vectors(dim) == bytes_


# Purging -----------------------------------------------------------------------------------------------------


def holding(collection: Collection, needle: bytes) -> list[str]:
    files = (file for file in Path(collection.key).rglob("*") if file.is_file())
    return [str(file) for file in files if needle in file.read_bytes()]


def test_a_purge_makes_it_anew_of_the_rows_that_are_left(store: CollectionStore) -> None:
    collection = filled(store, "dot")
    # So far from all others that it is a centre of its own, with every float.
    secret = np.random.default_rng(3).standard_normal(DIM).astype(np.float32) * 1e6
    write(collection, [Row(f"secret{number}", secret) for number in range(300)])
    made = collection.create_vector_index(partitions=2)
    assert holding(collection, secret.tobytes())
    collection.purge(where="id LIKE 'secret%'")
    assert holding(collection, secret.tobytes()) == []
    left = collection.vector_index()
    assert left is not None
    assert (left.uuid == made.uuid, left.rows, left.unindexed) == (False, 600, 0)
    assert collection.stored_vectors().partitions == 2
    assert_right(collection, "dot")


def test_a_purge_that_leaves_too_few_rows_drops_it(store: CollectionStore) -> None:
    collection = filled(store)
    collection.create_vector_index()
    assert collection.purge(where="id > 'r2'").rows > 400
    assert collection.vector_index() is None
    assert_right(collection)


def test_a_purge_drops_an_index_of_vectors_that_somebody_else_made(
    store: CollectionStore, caplog: pytest.LogCaptureFixture
) -> None:
    collection = filled(store)
    lance.dataset(collection.key).create_index(
        "embedding", "IVF_FLAT", name="theirs", metric="cosine", num_partitions=1
    )
    assert collection.vector_index() is None
    collection.purge(["r1"])
    assert lance.dataset(collection.key).describe_indices() == []
    assert "dropped index 'theirs'" in caplog.text


# Reading -----------------------------------------------------------------------------------------------------


def test_a_column_that_lance_would_call_the_same_is_no_matter(store: CollectionStore) -> None:
    collection = filled(store)
    write(collection, rows(["r1", "new"], np.random.default_rng(1), label="a", metadata={"query_index": 7}))
    collection.create_vector_index()
    assert_right(collection)


def test_rows_come_in_the_order_that_is_asked_for(store: CollectionStore) -> None:
    collection = filled(store)
    collection.delete(["r0"])
    stored, matrix = collection.stored_vectors(), collection.matrix()
    wanted = matrix.row_ids[[400, 3, 3, 77]]
    found = stored.rows(wanted, ("id", "label"))
    assert found.row_ids.tolist() == wanted.tolist()
    assert found.rows.column("id").to_pylist() == [matrix.ids[at].as_py() for at in (400, 3, 3, 77)]
    assert (found.embeddings == matrix.embeddings[[400, 3, 3, 77]]).all()
    nothing = stored.rows(wanted[:0], ("id",))
    assert (len(nothing.rows), nothing.embeddings.shape) == (0, (0, DIM))


def test_rows_that_are_drawn_are_alive_and_have_a_vector(store: CollectionStore) -> None:
    collection = filled(store)
    collection.delete([f"r{number}" for number in range(0, 600, 2)])
    write(collection, [Row(f"bad{number}", None, status="error", error="gone") for number in range(100)])
    stored, matrix = collection.stored_vectors(), collection.matrix()
    drawn = stored.sample(1000, seed=1)
    assert sorted(drawn.row_ids.tolist()) == sorted(matrix.row_ids.tolist())
    by_id = dict(zip(matrix.row_ids.tolist(), matrix.embeddings, strict=True))
    assert all(
        (by_id[row_id] == vector).all()
        for row_id, vector in zip(drawn.row_ids.tolist(), drawn.embeddings, strict=True)
    )
    assert len(stored.sample(50, seed=1).row_ids) <= 50
    assert len(store.create("empty", spec()).stored_vectors().sample(5, seed=1).row_ids) == 0


def test_all_vectors_that_a_condition_lets_through_are_scanned(store: CollectionStore) -> None:
    collection = filled(store)
    stored = collection.stored_vectors()
    found = list(stored.scan("label = ?", ["a"]))
    matrix = collection.matrix("label = 'a'")
    assert np.concatenate([part.row_ids for part in found]).tolist() == matrix.row_ids.tolist()
    assert (np.concatenate([part.embeddings for part in found]) == matrix.embeddings).all()
    assert stored.count("label = ?", ["a"]) == len(matrix) == 200


@pytest.mark.parametrize("where", ["nothing = 1", "label = 'a' OR", "label = 'a'; true"])
def test_a_condition_that_can_not_be_used_is_the_callers(store: CollectionStore, where: str) -> None:
    stored = filled(store).stored_vectors()
    query = np.ones((1, DIM), np.float32)
    for attempt in (
        lambda: stored.count(where),
        lambda: stored.nearest(query, 1, where, **ALL),
        lambda: list(stored.scan(where)),
    ):
        with pytest.raises(InvalidArgument, match="where"):
            attempt()


def test_a_version_that_was_removed_says_so(store: CollectionStore) -> None:
    collection = filled(store)
    stored = collection.stored_vectors()
    write(collection, rows([f"r{number}" for number in range(600)], np.random.default_rng(1)))
    collection.compact(NOW)
    with pytest.raises(TrunklineError, match="flowers"):
        list(stored.scan())
