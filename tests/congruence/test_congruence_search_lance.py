"""Flat search and Lance's own index: two ways, one answer. With every partition looked at they are equal."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import METRICS, CollectionSpec
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import Cancelled, FailedPrecondition, InvalidArgument, NotEnoughData
from trunkline_service.index import shaping
from trunkline_service.index.lance import tuning
from trunkline_service.index.lance.candidates import Effort
from trunkline_service.index.lance.searching import LanceSearch, Tuned
from trunkline_service.index.options import IndexOptions
from trunkline_service.index.outcome import SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import Searcher, SearchPolicy

DIM = 16
ROWS = 1200
ALL = Effort(nprobes=10_000, refine_factor=10_000)


@pytest.fixture(scope="module", params=METRICS)
def collection(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Collection:
    return made(tmp_path_factory.mktemp("data"), request.param)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return made(tmp_path_factory.mktemp("data"), "cosine")


def made(data: Path, metric: str, dtype: Any = "float32") -> Collection:
    """Clusters, labels, a column that is null here and there; half of it moved, deleted or added after indexing."""
    # A day ahead: Lance dates versions by the machine's clock, and all of them are then old.
    store = CollectionStore(data, clock=lambda: datetime.now(UTC) + timedelta(days=1))
    spec = CollectionSpec("sp1-a", DIM, "tiny@1", "ar1-a", "exact", metric=metric, dtype=dtype)
    collection = store.create("flowers", spec)
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((20, DIM))
    write(collection, rows(centres, chance, range(ROWS)))
    collection.create_vector_index(partitions=4)
    write(collection, rows(centres, chance, [*range(100, 200), *range(ROWS, ROWS + 100)]))
    collection.delete([f"r{number}" for number in range(300, 400)])
    collection.relabel({f"r{number}": "moved" for number in range(50)})
    write(collection, [Row("bad", None, status="error", error="gone")])
    return collection


def rows(centres: np.ndarray, chance: np.random.Generator, numbers: Any) -> list[Row]:
    return [
        Row(
            f"r{number}",
            (centres[number % 20] + 0.4 * chance.standard_normal(DIM)).astype(np.float32),
            label=None if number % 11 == 0 else f"c{number % 7}",
            source=f"/photos/{number}",
            metadata={} if number % 5 == 0 else {"shelf": number % 40},
        )
        for number in numbers
    ]


def write(collection: Collection, written: list[Row]) -> int:
    return collection.upsert(written, space_id="sp1-a", decode="exact")


def searching(collection: Collection, effort: Effort = ALL, exact_rows: int = 0) -> LanceSearch:
    index = collection.vector_index()
    assert index is not None
    return LanceSearch(collection, Tuned(index.uuid, effort, None), exact_rows=exact_rows)


def queries(count: int = 6) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, DIM)).astype(np.float32)


def both(
    collection: Collection,
    asked: np.ndarray,
    options: SearchOptions,
    excluded: list[str | None] | None = None,
) -> tuple[SearchOutcome, SearchOutcome]:
    flat = Searcher(SearchPolicy()).search(collection, asked, options, excluded)
    return flat, searching(collection).search(asked, options, excluded)


def assert_equal(flat: SearchOutcome, other: SearchOutcome) -> None:
    """The same hits with the same scores; hits of one score in any order."""
    assert (other.space_id, other.version, other.metric) == (flat.space_id, flat.version, flat.metric)
    for expected, found in zip(flat.hits, other.hits, strict=True):
        np.testing.assert_allclose(
            [hit.score for hit in found], [hit.score for hit in expected], rtol=1e-5, atol=1e-5
        )
        key = lambda hit: hit.id  # noqa: E731
        plain = [
            [
                hit._replace(score=0.0, duplicates=tuple(sorted(hit.duplicates)))
                for hit in sorted(hits, key=key)
            ]
            for hits in (found, expected)
        ]
        assert plain[0] == plain[1]


OPTIONS = {
    "plain": SearchOptions(),
    "one": SearchOptions(k=1),
    "many": SearchOptions(k=700),
    "filtered": SearchOptions(where="label = ? AND shelf > ?", parameters=["c3", 3]),
    "filtered with a comment": SearchOptions(where="label = 'c3' -- the third", group_by="shelf"),
    "nothing passes": SearchOptions(where="label = 'none of them'"),
    "few pass": SearchOptions(where="id IN ('r1', 'r150', 'r350', 'bad')"),
    "grouped by label": SearchOptions(group_by="label"),
    "the best two of a shelf": SearchOptions(k=5, group_by="shelf", per_group=2),
    "grouped and filtered": SearchOptions(
        k=4, group_by="label", where="shelf = ? OR shelf = ?", parameters=[1, 2]
    ),
    "exact": SearchOptions(exact=True, k=20),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_with_every_partition_they_are_equal(collection: Collection, name: str) -> None:
    assert_equal(*both(collection, queries(), OPTIONS[name]))


def test_a_radius_is_the_same_and_goes_with_the_rest(collection: Collection) -> None:
    flat = Searcher(SearchPolicy()).search(collection, queries(), SearchOptions(k=100))
    least = float(np.median([hit.score for hits in flat.hits for hit in hits]))
    for options in (
        SearchOptions(k=100, min_score=least),
        SearchOptions(k=3, min_score=least, group_by="label"),
    ):
        assert_equal(*both(collection, queries(), options))


def test_a_row_is_not_its_own_neighbour(collection: Collection) -> None:
    ids = ["r0", "r150", "r1205", None]
    matrix = collection.matrix()
    places = {name: at for at, name in enumerate(matrix.ids.to_pylist())}
    asked = np.stack([matrix.embeddings[places[name or "r7"]] for name in ids])
    for options in (SearchOptions(k=5), SearchOptions(k=3, group_by="label"), SearchOptions(k=900)):
        flat, other = both(collection, asked, options, ids)
        assert_equal(flat, other)
        assert all(hit.id != name for name, hits in zip(ids, other.hits, strict=True) for hit in hits)


def test_near_identical_hits_are_folded_alike(collection: Collection) -> None:
    asked = queries(3)
    thresholds = {"cosine": 0.85, "dot": 14.0, "euclidean": -2.0}
    options = SearchOptions(k=5, collapse=thresholds[collection.metric])
    flat, other = both(collection, asked, options)
    for expected, found in zip(flat.hits, other.hits, strict=True):
        assert [hit.id for hit in found] == [hit.id for hit in expected]
    assert any(hit.duplicates for hits in other.hits for hit in hits)


def test_it_follows_every_write(collection: Collection, tmp_path: Path) -> None:
    own = made(tmp_path, collection.metric)
    search = searching(own)
    flat = Searcher(SearchPolicy())
    chance = np.random.default_rng(5)
    changes: list[Callable[[], object]] = [
        lambda: write(own, [Row("r500", queries(1)[0])]),
        lambda: own.delete(["r500", "r501"]),
        lambda: own.relabel({"r502": "other"}),
        lambda: own.compact(timedelta(0)),
        lambda: write(
            own, [Row(f"n{at}", chance.standard_normal(DIM).astype(np.float32)) for at in range(50)]
        ),
        lambda: own.restore(own.version - 1),
        own.create_vector_index,
        lambda: own.purge(["r700"]),
        own.drop_vector_index,
    ]
    for change, options in zip(changes, itertools.cycle([SearchOptions(), SearchOptions(group_by="label")])):
        change()
        index = own.vector_index()
        # Of an index that was not measured, too few partitions may be looked at; here there are few.
        search = search if index is None else LanceSearch(own, Tuned(index.uuid, ALL, None), exact_rows=0)
        assert_equal(flat.search(own, queries(), options), search.search(queries(), options))
    last = search.search(queries(), SearchOptions())
    assert (last.searched.kind, last.searched.exact) == ("flat", True)


def test_half_floats_are_scored_as_flat_scores_them(tmp_path: Path) -> None:
    assert_equal(*both(made(tmp_path, "cosine", "float16"), queries(), SearchOptions(k=5)))


# What Lance does not find ------------------------------------------------------------------------------------


def test_rows_of_zeros_and_queries_of_zeros_have_a_cosine_of_0(tmp_path: Path) -> None:
    store = CollectionStore(tmp_path)
    collection = store.create("flowers", CollectionSpec("sp1-a", DIM, "tiny@1", "ar1-a", "exact"))
    chance = np.random.default_rng(0)
    vectors = np.abs(chance.standard_normal((400, DIM))).astype(np.float32)
    vectors[7:10] = 0
    write(collection, [Row(f"r{at}", vector) for at, vector in enumerate(vectors)])
    collection.create_vector_index()
    # All rows but those of zeros lie on the other side of the second one.
    asked = np.stack([np.ones(DIM), -np.ones(DIM), np.zeros(DIM)]).astype(np.float32)
    flat, other = both(collection, asked, SearchOptions(k=5))
    assert [hit.id for hit in other.hits[1]][:3] == ["r7", "r8", "r9"]
    assert [hit.score for hit in other.hits[2]] == [0.0] * 5
    assert_equal(flat, other)
    everything = searching(collection).search(asked, SearchOptions(k=1000))
    assert [len(hits) for hits in everything.hits] == [400] * 3
    # With a radius above 0 they are no hits, and nothing is compared for them.
    near = searching(collection).search(asked[:1], SearchOptions(k=5, min_score=0.1))
    assert not near.searched.exact


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "QUERIES", 50)


# Effort ------------------------------------------------------------------------------------------------------


def test_the_recall_that_is_wanted_is_reached_with_the_effort_that_was_measured(
    flowers: Collection,
) -> None:
    clock = itertools.count()
    heard: list[tuple[str, float]] = []
    built = tuning.build(
        flowers,
        IndexOptions("lance", recall=0.95),
        clock=lambda: float(next(clock)),
        progress=lambda phase, done: heard.append((phase, done)),
    )
    recall = built.tuned.recall
    assert recall is not None
    assert (recall.low >= 0.95, recall.k, recall.queries, recall.rows) == (True, 10, 50, ROWS)
    assert built.parameters["refine_factor"] == built.tuned.effort.refine_factor
    assert built.settings
    assert heard[-1] == ("measure", 1.0)
    index = flowers.vector_index()
    assert index is not None
    assert (index.built_from, index.rows) == (built.version, built.rows)
    outcome = LanceSearch(flowers, built.tuned, exact_rows=0).search(queries(), SearchOptions())
    assert outcome.searched == replace(outcome.searched, kind="lance", exact=False, recall=recall)
    flat = Searcher(SearchPolicy()).search(flowers, queries(50), SearchOptions())
    other = LanceSearch(flowers, built.tuned, exact_rows=0).search(queries(50), SearchOptions())
    shared = [
        len({hit.id for hit in one} & {hit.id for hit in two})
        for one, two in zip(flat.hits, other.hits, strict=True)
    ]
    assert np.mean(shared) / 10 >= 0.9
    # Of 50 other rows.
    assert tuning.measure(flowers, built.tuned, 10, 50).measured == pytest.approx(recall.measured, abs=0.05)


def test_an_effort_that_is_too_small_is_measured_as_such(flowers: Collection) -> None:
    flowers.create_vector_index(partitions=4, sub_vectors=1)
    index = flowers.vector_index()
    assert index is not None
    little = tuning.measure(flowers, Tuned(index.uuid, Effort(1, 1), None), 10, 50)
    all_ = tuning.measure(flowers, Tuned(index.uuid, ALL, None), 10, 50)
    assert little.measured < 0.7 < all_.measured == 1.0
    assert little.low < little.measured


def test_a_recall_that_no_effort_reaches_is_said_so(
    flowers: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_REFINE", (1,))
    clock = itertools.count()
    built = tuning.build(flowers, IndexOptions("lance", recall=1.0), clock=lambda: float(next(clock)))
    assert "no effort reached the wanted 1" in built.reason


def test_an_index_that_was_made_anew_was_not_measured(flowers: Collection) -> None:
    clock = itertools.count()
    built = tuning.build(flowers, IndexOptions("lance", recall=0.9), clock=lambda: float(next(clock)))
    search = LanceSearch(flowers, built.tuned, exact_rows=0)
    assert search.search(queries(1), SearchOptions()).searched.recall == built.tuned.recall
    flowers.create_vector_index()
    assert search.search(queries(1), SearchOptions()).searched.recall is None


def test_cancelling_and_too_few_rows_are_told(tmp_path: Path) -> None:
    collection = made(tmp_path, "cosine")
    with pytest.raises(Cancelled):
        tuning.build(collection, IndexOptions("lance"), clock=lambda: 0.0, cancelled=lambda: True)
    collection.delete_where("id != 'r1'")
    with pytest.raises(NotEnoughData, match="needs 256"):
        tuning.build(collection, IndexOptions("lance"), clock=lambda: 0.0)
    with pytest.raises(NotEnoughData, match="two or more"):
        tuning.measure(collection, Tuned("", ALL, None), 10)


def test_what_a_filter_leaves_of_few_rows_is_compared(flowers: Collection) -> None:
    search = searching(flowers, Effort(1, 1), exact_rows=300)
    few = search.search(queries(), SearchOptions(where="label = 'c3'"))
    assert few.searched.exact
    assert_equal(
        Searcher(SearchPolicy()).search(flowers, queries(), SearchOptions(where="label = 'c3'")), few
    )
    assert not search.search(queries(), SearchOptions()).searched.exact


# What can't be asked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (SearchOptions(where="nothing = 1"), "nothing"),
        (SearchOptions(where="label = 'a') OR (true"), "brackets and quotes"),
        (SearchOptions(group_by="nothing"), "no column 'nothing' to group by"),
        (SearchOptions(group_by="embedding"), "no column 'embedding' to group by"),
    ],
)
def test_a_question_that_can_not_be_answered_is_refused(
    flowers: Collection, options: SearchOptions, said: str
) -> None:
    with pytest.raises(InvalidArgument, match=said):
        searching(flowers).search(queries(1), options)


def test_queries_and_versions_are_checked(flowers: Collection) -> None:
    search = searching(flowers)
    with pytest.raises(InvalidArgument, match="NaN or infinity"):
        search.search(np.full((1, DIM), np.nan, np.float32), SearchOptions())
    with pytest.raises(InvalidArgument, match="have 17 floats, those of collection 'flowers' have 16"):
        search.search(np.ones((1, DIM + 1), np.float32), SearchOptions())
    with pytest.raises(FailedPrecondition, match="never written"):
        search.search(queries(1), SearchOptions(min_version=flowers.version + 1))
    assert search.search(queries(0), SearchOptions()).hits == []
    assert search.search(queries(1), SearchOptions(min_version=flowers.version)).version == flowers.version


def test_lists_are_not_grouped_by(tmp_path: Path) -> None:
    spec = CollectionSpec("sp1-a", DIM, "tiny@1", "ar1-a", "exact", multi_label=True)
    collection = CollectionStore(tmp_path).create("flowers", spec)
    write(collection, [Row("a", queries(1)[0], label=("x", "y"))])
    with pytest.raises(InvalidArgument, match="holds lists"):
        LanceSearch(collection).search(queries(1), SearchOptions(group_by="label"))
    (hits,) = LanceSearch(collection).search(queries(1), SearchOptions()).hits
    assert hits[0].label == ("x", "y")


def test_more_near_identical_rows_than_are_compared_are_answered_with_what_was_found(
    flowers: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shaping, "MOST_COMPARED", 256)
    options = SearchOptions(k=10, collapse=-1000.0)
    outcome = searching(flowers).search(queries(1), options)
    (hits,) = outcome.hits
    assert [len(hit.duplicates) for hit in hits] == [shaping.MOST_FOLDED]
    assert not outcome.searched.exact
    flat = Searcher(SearchPolicy()).search(flowers, queries(1), options)
    assert_equal(flat, outcome)
    assert not flat.searched.exact


@pytest.mark.parametrize("count", [0, 1, 3])
def test_collections_of_few_rows_need_no_index(tmp_path: Path, count: int) -> None:
    collection = CollectionStore(tmp_path).create(
        "few", CollectionSpec("sp1-a", DIM, "t@1", "ar1-a", "exact")
    )
    if count:
        write(collection, [Row(f"r{at}", vector) for at, vector in enumerate(queries(count))])
    for options in (SearchOptions(), SearchOptions(group_by="label"), SearchOptions(collapse=0.5)):
        other = LanceSearch(collection).search(queries(2), options)
        assert_equal(Searcher(SearchPolicy()).search(collection, queries(2), options), other)
        assert other.searched.exact
