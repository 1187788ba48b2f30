"""The searcher's hits: the nearest rows, under conditions, exclusion, a radius and groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.index.points import SPEC, Sighted, at, level, write
from tests.index.searcher.conftest import ids, search

from trunkline_service.collections.collection import Collection
from trunkline_service.collections.fragments import Fragments
from trunkline_service.collections.rows import Row
from trunkline_service.collections.store import CollectionStore
from trunkline_service.errors import InvalidArgument
from trunkline_service.index.following import flat_view
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.searcher import Searcher, SearchPolicy
from trunkline_service.index.view import View


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


def test_k_of_1000_works_with_an_exclusion(collection: Collection, searcher: Searcher) -> None:
    write(collection, a=0, b=1)
    assert ids(searcher, collection, 0, k=1000, exclude_ids=["a"]) == [["b"]]


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
