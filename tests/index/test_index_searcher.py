"""The searcher: refusals, exclusion, conditions, versions, and threads that search while others write."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.index.points import SPEC, Sighted, at, level, write

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.rows import Row
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import (
    CollectionNotFound,
    FailedPrecondition,
    InvalidArgument,
    SpaceMismatch,
    StorageError,
)
from trunkline_service.index import following
from trunkline_service.index.following import flat_view
from trunkline_service.index.outcome import SearchOutcome
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import Searcher, SearchPolicy
from trunkline_service.index.segment import read_part
from trunkline_service.index.selecting import Selector
from trunkline_service.index.view import View


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    return CollectionStore(tmp_path)


@pytest.fixture
def collection(store: CollectionStore) -> Collection:
    return store.create("points", SPEC)


@pytest.fixture
def searcher() -> Iterator[Searcher]:
    made = Searcher(SearchPolicy())
    yield made
    made.close()


def search(
    searcher: Searcher,
    collection: Collection,
    *degrees: float,
    exclude_ids: list[str | None] | None = None,
    **options: Any,
) -> SearchOutcome:
    return searcher.search(collection, at(*degrees), SearchOptions(**({"k": 3} | options)), exclude_ids)


def ids(searcher: Searcher, collection: Collection, *degrees: float, **options: Any) -> list[list[str]]:
    outcome = search(searcher, collection, *degrees, **options)
    return [[hit.id for hit in hits] for hits in outcome.hits]


def test_hits_carry_what_the_row_says(collection: Collection, searcher: Searcher) -> None:
    write(collection, a1=0, b1=60, a2=90)
    outcome = search(searcher, collection, 50, k=2)
    assert (outcome.version, outcome.metric, outcome.space_id) == (collection.version, "cosine", "sp1-a")
    said = outcome.searched
    assert (said.kind, said.exact, said.index_version, said.recall) == (
        "flat",
        True,
        collection.version,
        None,
    )
    nearest, second = outcome.hits[0]
    assert (nearest.id, nearest.label, nearest.source) == ("b1", "b", "b1.jpg")
    assert (nearest.group, nearest.duplicates) == (None, ())
    assert nearest.score == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-6)
    assert second.id == "a2"


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_scores_are_of_the_collections_metric_and_vectors_as_they_were_written(
    store: CollectionStore, searcher: Searcher, metric: str
) -> None:
    collection = store.create("long", dataclasses.replace(SPEC, metric=metric))
    rows = [Row("far", np.array([6, 8], np.float32)), Row("near", np.array([0.6, 1.0], np.float32))]
    collection.upsert(rows, space_id="sp1-a", decode="exact")
    outcome = searcher.search(collection, np.array([[0.3, 0.4]], np.float32), SearchOptions())
    best, other = outcome.hits[0]
    scores = {
        "cosine": [("far", 1.0), ("near", 0.58 / (0.5 * np.sqrt(1.36)))],
        "dot": [("far", 5.0), ("near", 0.58)],
        "euclidean": [("near", -np.sqrt(0.45)), ("far", -9.5)],
    }[metric]
    assert [best.id, other.id] == [name for name, _ in scores]
    np.testing.assert_allclose([best.score, other.score], [score for _, score in scores], rtol=1e-6)
    assert outcome.metric == metric


def test_an_empty_collection_and_one_of_errors_have_no_hits(
    collection: Collection, searcher: Searcher
) -> None:
    assert ids(searcher, collection, 0, 90) == [[], []]
    collection.upsert([Row("a", None, status="error", error="why")], space_id="sp1-a", decode="exact")
    assert ids(searcher, collection, 0, where="id is not null") == [[]]
    assert ids(searcher, collection, 0, group_by="label", collapse=0.9, exclude_ids=["a"]) == [[]]
    assert searcher.search(collection, np.empty((0, 2), np.float32), SearchOptions()).hits == []
    with pytest.raises(InvalidArgument, match="colour"):
        ids(searcher, collection, 0, where="colour = 'red'")


def test_a_collection_of_one_row_has_one_hit(collection: Collection, searcher: Searcher) -> None:
    write(collection, a=0)
    assert ids(searcher, collection, 0, 180, k=1000) == [["a"], ["a"]]
    assert ids(searcher, collection, 0, exclude_ids=["a"]) == [[]]
    assert ids(searcher, collection, 0, group_by="label", per_group=3) == [["a"]]


def test_conditions_and_exclusion_leave_k_hits(collection: Collection, searcher: Searcher) -> None:
    write(collection, a1=0, a2=10, b1=20, b2=30, a3=40)
    assert ids(searcher, collection, 0, where="label = 'b'") == [["b1", "b2"]]
    assert ids(searcher, collection, 0, where="label = ?", parameters=["b"]) == [["b1", "b2"]]
    assert ids(searcher, collection, 0, k=2, exclude_ids=["a1"]) == [["a2", "b1"]]
    assert ids(searcher, collection, 0, 40, k=2, exclude_ids=[None, "a3"]) == [["a1", "a2"], ["b2", "b1"]]
    assert ids(searcher, collection, 0, k=2, exclude_ids=["absent"]) == [["a1", "a2"]]
    assert ids(searcher, collection, 0, k=2, exclude_ids=[None]) == [["a1", "a2"]]
    assert ids(searcher, collection, 0, where="label = 'a'", exclude_ids=["a1"]) == [["a2", "a3"]]
    assert ids(searcher, collection, 0, where="label = 'c'") == [[]]


def test_a_version_before_the_min_version_is_refused(collection: Collection, searcher: Searcher) -> None:
    write(collection, a=0)
    old = collection.version
    write(collection, b=1)
    options = SearchOptions(k=1, min_version=old)
    assert searcher.search(collection, at(0), options, version=old).version == old
    for refused in (old - 1, 1):
        words = f"version {refused} of collection 'points' is searched, and min_version is {old}"
        with pytest.raises(InvalidArgument, match=words):
            searcher.search(collection, at(0), options, version=refused)


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
@pytest.mark.parametrize("size", [1e-30, 1e25, 3e38])
def test_values_beyond_single_precision_are_ranked_across_versions(
    store: CollectionStore, searcher: Searcher, metric: str, size: float
) -> None:
    collection = store.create("long", dataclasses.replace(SPEC, metric=metric))
    vectors = {
        name: np.array([x, 1.0]) * size for name, x in (("c", 0.5), ("d", -1.0), ("a", 0.9), ("b", 0.7))
    }
    for name, vector in vectors.items():
        collection.upsert([Row(name, vector.astype(np.float32))], space_id="sp1-a", decode="exact")
        # Each is a part of its own, or is merged with those before it.
        searcher.views.fresh(collection)
    outcome = searcher.search(collection, np.array([[size, 0]], np.float32), SearchOptions(k=4))
    (hits,) = outcome.hits
    assert [hit.id for hit in hits] == ["a", "b", "c", "d"]
    assert np.isfinite([hit.score for hit in hits]).all()
    assert outcome.searched.exact


def test_a_radius_groups_and_near_identical_rows(collection: Collection, searcher: Searcher) -> None:
    write(collection, a1=0, a2=1, b1=20, b2=30, a3=60)
    assert ids(searcher, collection, 0, min_score=float(np.cos(np.deg2rad(25)))) == [["a1", "a2", "b1"]]
    assert ids(searcher, collection, 0, 26, group_by="label") == [["a1", "b1"], ["b2", "a2"]]
    (hits,) = search(searcher, collection, 0, group_by="label", per_group=2, exclude_ids=["a1"]).hits
    assert [(hit.id, hit.group) for hit in hits] == [("a2", "a"), ("b1", "b"), ("b2", "b"), ("a3", "a")]
    (hits,) = search(searcher, collection, 0, collapse=0.999, k=2).hits
    assert [(hit.id, hit.duplicates) for hit in hits] == [("a1", ("a2",)), ("b1", ())]
    assert ids(searcher, collection, 0, group_by="label", where="label = 'b'") == [["b1"]]


def test_groups_of_any_column_and_of_several_labels(store: CollectionStore, searcher: Searcher) -> None:
    collection = store.create("many", dataclasses.replace(SPEC, multi_label=True))
    rows = [
        Row("a", at(0)[0], ("x", "y"), metadata={"year": 2001, "raw": True}),
        Row("b", at(10)[0], ("x", "y"), metadata={"year": 2002}),
        Row("c", at(20)[0], (), metadata={"year": 2001}),
        Row("d", at(30)[0], None),
        Row("e", at(40)[0], None),
    ]
    collection.upsert(rows, space_id="sp1-a", decode="exact")

    def groups(column: str, **options: Any) -> list[tuple[str, str | None]]:
        (hits,) = search(searcher, collection, 0, group_by=column, k=10, **options).hits
        return [(hit.id, hit.group) for hit in hits]

    assert groups("label") == [("a", "x, y"), ("c", ""), ("d", None), ("e", None)]
    assert groups("year") == [("a", "2001"), ("b", "2002"), ("d", None), ("e", None)]
    assert groups("raw")[0] == ("a", "True")
    collection.delete(["a"])
    assert groups("year") == [("b", "2002"), ("c", "2001"), ("d", None), ("e", None)]
    assert groups("year", exclude_ids=["b"]) == [("c", "2001"), ("d", None), ("e", None)]
    with pytest.raises(InvalidArgument, match="no column 'colour' to group by"):
        groups("colour")
    (hits,) = search(searcher, collection, 0, k=4).hits
    assert [hit.label for hit in hits] == [("x", "y"), (), None, None]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"queries": np.zeros((1, 3), np.float32)}, r"\(Q, 2\)"),
        ({"queries": np.zeros(2, np.float32)}, r"\(2,\)"),
        ({"queries": np.zeros((1, 2))}, "float64"),
        ({"queries": np.array([[0, 0], [np.nan, 0]], np.float32)}, "query 1 holds NaN"),
        ({"queries": np.array([[np.inf, 0]], np.float32)}, "query 0 holds NaN or infinity"),
        ({"exclude_ids": []}, "0 entries for 1 queries"),
        ({"options": SearchOptions(where="colour = 'red'")}, "The columns are id, "),
        ({"options": SearchOptions(where="label = ?")}, "takes 1 parameters, 0 are given"),
        ({"options": SearchOptions(where="label = 'a'); DROP TABLE points")}, "brackets and quotes"),
        ({"options": SearchOptions(group_by="embedding")}, "no column 'embedding' to group by"),
    ],
)
def test_what_cannot_be_used_is_refused(
    collection: Collection, searcher: Searcher, arguments: dict[str, Any], words: str
) -> None:
    write(collection, a=0)
    with pytest.raises(InvalidArgument, match=words):
        searcher.search(collection, **{"queries": at(0), "options": SearchOptions()} | arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 1001}, "1 to 1000"),
        ({"min_version": -1}, "min_version is -1"),
        ({"per_group": 0}, "per_group is 0"),
        ({"min_score": float("nan")}, "min_score is NaN"),
        ({"collapse": float("nan")}, "collapse is NaN"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        SearchOptions(**options)


def test_queries_of_another_space_are_refused(collection: Collection, searcher: Searcher) -> None:
    with pytest.raises(SpaceMismatch, match="of space sp1-b; collection 'points' holds space sp1-a"):
        searcher.search(collection, at(0), SearchOptions(), space_id="sp1-b")
    assert searcher.search(collection, at(0), SearchOptions(), space_id="sp1-a").hits == [[]]


def test_k_of_1000_works_with_an_exclusion(collection: Collection, searcher: Searcher) -> None:
    write(collection, a=0, b=1)
    assert ids(searcher, collection, 0, k=1000, exclude_ids=["a"]) == [["b"]]


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


def test_a_min_version_in_the_future_is_refused(collection: Collection, searcher: Searcher) -> None:
    write(collection, a=0)
    version = collection.version
    assert ids(searcher, collection, 0, min_version=version) == [["a"]]
    with pytest.raises(FailedPrecondition, match=f"min_version {version + 1} was never written"):
        ids(searcher, collection, 0, min_version=version + 1)


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


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often all rows of a collection were read."""
    calls: list[str] = []
    monkeypatch.setattr(
        following,
        "read_part",
        lambda now, *rest: (calls.append("all") if not rest else None, read_part(now, *rest))[1],
    )
    return lambda: len(calls)


def test_an_unchanged_collection_is_read_once(
    collection: Collection, searcher: Searcher, reads: Callable[[], int]
) -> None:
    write(collection, a=0)
    for _ in range(3):
        ids(searcher, collection, 0)
    assert reads() == 1


def test_the_collections_searched_longest_ago_leave_memory_first(
    store: CollectionStore, reads: Callable[[], int]
) -> None:
    one, two, three = collections = [store.create(name, SPEC) for name in ("one", "two", "three")]
    for collection in collections:
        write(collection, a=0, b=1)
    size = flat_view(one.fragments()).nbytes
    searcher = Searcher(SearchPolicy(max_bytes=2 * size))
    before = reads()
    for collection in (one, two, one, three, one):
        ids(searcher, collection, 0, where="label = 'a'")
    assert reads() == before + 3
    ids(searcher, two, 0)
    assert reads() == before + 4


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """The vectors that were read, as long as something holds them."""
    found: list[weakref.ref[Any]] = []

    def noted(now: Fragments, *rest: Any) -> Any:
        part = read_part(now, *rest)
        if part is not None:
            found.append(weakref.ref(part.segment))
        return part

    monkeypatch.setattr(following, "read_part", noted)
    return found


def test_what_is_forgotten_is_let_go_at_once_and_read_anew(
    store: CollectionStore, collection: Collection, searcher: Searcher, made: list[weakref.ref[Any]]
) -> None:
    other = store.create("other", SPEC)
    for each in (collection, other):
        write(each, a=0, b=90)
        ids(searcher, each, 0, where="label = 'a'", group_by="label")
    searcher.forget(collection)
    gc.collect()
    assert [segment() is None for segment in made] == [True, False]
    assert ids(searcher, collection, 0) == ids(searcher, other, 0) == [["a", "b"]]
    assert len(made) == 3
    for _ in range(2):
        searcher.forget(collection)


def test_what_left_memory_is_not_held_by_the_conditions_it_was_asked(
    store: CollectionStore, collection: Collection, made: list[weakref.ref[Any]]
) -> None:
    searcher = Searcher(SearchPolicy(max_bytes=1))
    other = store.create("other", SPEC)
    for each in (collection, other):
        write(each, a=0, b=90)
        ids(searcher, each, 0, where="label = 'a'")
    gc.collect()
    assert [segment() is None for segment in made] == [True, False]


def test_a_build_under_way_is_forgotten_too(
    collection: Collection, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(collection, secret=0, other=90)
    read, go_on = threading.Event(), threading.Event()
    parts: list[weakref.ref[Any]] = []

    def slow(now: Fragments, *rest: Any) -> Any:
        part = read_part(now, *rest)
        if part is not None:
            parts.append(weakref.ref(part.segment))
        read.set()
        assert go_on.wait(30)
        return part

    monkeypatch.setattr(following, "read_part", slow)
    searching = threading.Thread(target=lambda: ids(searcher, collection, 0, where="true"))
    searching.start()
    assert read.wait(30)
    collection.purge(["secret"])
    forgetting = threading.Thread(target=lambda: searcher.forget(collection))
    forgetting.start()
    go_on.set()
    searching.join(30)
    forgetting.join(30)
    gc.collect()
    assert parts
    assert not [segment for segment in parts if (held := segment()) and "secret" in held.ids.to_pylist()]
    assert ids(searcher, collection, 0) == [["other"]]


def structured(effort: int) -> Callable[[Collection, Fragments], View]:
    """Loads views whose first rows have a structure."""

    def load(_: Collection, now: Fragments) -> View:
        view = flat_view(now)
        part = view.parts[0]
        segment = dataclasses.replace(
            part.segment, approximate=Sighted(part.segment.vectors), levels=(level(effort),)
        )
        return dataclasses.replace(view, parts=(dataclasses.replace(part, segment=segment),))

    return load


def test_exactness_is_said_and_can_be_asked_for(collection: Collection) -> None:
    write(collection, **{f"n{number}": number for number in range(50)})
    searcher = Searcher(SearchPolicy(flat_rows=5), structured(10))
    outcome = search(searcher, collection, 40, k=2)
    assert not outcome.searched.exact
    assert [hit.id for hit in outcome.hits[0]] == ["n9", "n8"]
    outcome = search(searcher, collection, 40, k=2, exact=True)
    assert outcome.searched.exact
    assert outcome.hits[0][0].id == "n40"
    # What was written since is compared, and so is what a filter leaves of a few rows.
    write(collection, late=40.1)
    assert ids(searcher, collection, 40, k=1) == [["late"]]
    assert ids(searcher, collection, 40, where="id IN ('n40', 'n41')") == [["n40", "n41"]]


@settings(max_examples=25, deadline=None)
@given(
    degrees=st.lists(st.integers(0, 359), min_size=1, max_size=30, unique=True),
    asked=st.lists(st.integers(0, 359), max_size=3),
    k=st.integers(1, 40),
    threads=st.sampled_from([1, 3]),
    label=st.sampled_from([None, "a", "b"]),
)
def test_hits_are_the_nearest_rows(
    tmp_path_factory: pytest.TempPathFactory,
    degrees: list[int],
    asked: list[int],
    k: int,
    threads: int,
    label: str | None,
) -> None:
    collection = CollectionStore(tmp_path_factory.mktemp("points")).create("points", SPEC)
    rows = {f"{'ab'[place % 2]}{place}": angle for place, angle in enumerate(degrees)}
    write(collection, **rows)
    searcher = Searcher(SearchPolicy(threads=threads))
    where = None if label is None else "label = ?"
    found = (
        search(searcher, collection, *asked, k=k, where=where, parameters=[label] if label else []).hits
        if asked
        else []
    )
    searcher.close()
    for query, hits in zip(asked, found, strict=True):
        right = sorted(
            np.cos(np.deg2rad(query - angle)) for name, angle in rows.items() if label in (None, name[0])
        )
        assert len(hits) == min(k, len(right))
        np.testing.assert_allclose([hit.score for hit in hits], right[::-1][:k], atol=1e-6)
        assert all(
            hit.score == pytest.approx(np.cos(np.deg2rad(query - rows[hit.id])), abs=1e-6) for hit in hits
        )


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


def test_a_store_that_fails_under_a_filter_is_told(
    collection: Collection, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(collection, a=0)

    def fails(*_: Any) -> None:
        raise StorageError("the disk is gone")

    monkeypatch.setattr(Selector, "masks", fails)
    with pytest.raises(StorageError, match="disk"):
        ids(searcher, collection, 0, where="true")
