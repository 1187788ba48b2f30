"""Searches whose queries keep their space, end with their caller, and whose thresholds can be met."""

from __future__ import annotations

import numpy as np
import pytest

from trunkline_service.collections.declared import meant_space
from trunkline_service.collections.rows import Row
from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import Cancelled, InvalidArgument, RowNotFound, SpaceMismatch
from trunkline_service.index.query import SearchOptions
from trunkline_service.workspace import PredictOptions
from trunkline_service.workspace.embedding import Embedder

SPACE = "declared:mine"


def brought_in(workspace, name="mine", metric="cosine", space=SPACE):
    spec = CollectionSpec(space, 3, "", "", "unknown", declared=True, metric=metric)
    collection = workspace.collections.create(name, spec)
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    rows = [Row(f"r{index}", vector, decode="unknown") for index, vector in enumerate(vectors)]
    collection.upsert(rows, space_id=space, decode=None)
    return collection


@pytest.fixture
def replace(workspace, store_rows):
    """``replace("shades")``: another collection of the name, in the space of another model."""

    def do(name):
        workspace.drop_collection(name)
        store_rows(name, model="double")

    return do


def test_images_meet_no_rows_of_another_space(workspace, store_rows, image, replace, monkeypatch):
    store_rows("shades")
    embed = Embedder.embed_for

    def and_then_another(*args, **kwargs):
        embedded = embed(*args, **kwargs)
        replace("shades")
        return embedded

    monkeypatch.setattr(Embedder, "embed_for", and_then_another)
    with pytest.raises(SpaceMismatch, match="query vectors are of space"):
        workspace.search("shades", [image(3)])


def test_rows_meet_no_rows_of_another_space(workspace, store_rows, replace, monkeypatch):
    store_rows("shades")
    search = workspace._indexes.search

    def after_another(*args, **kwargs):
        replace("shades")
        return search(*args, **kwargs)

    monkeypatch.setattr(workspace._indexes, "search", after_another)
    with pytest.raises(SpaceMismatch, match="query vectors are of space"):
        workspace.search_ids("shades", ["r1"])


def test_neighbours_of_predictions_are_of_the_heads_space(
    workspace, store_rows, constant, image, replace, monkeypatch
):
    store_rows("shades")
    workspace.heads.save(constant("dark"), "dark")
    check = workspace._searching.check_space

    def and_then_another(*args):
        check(*args)
        replace("shades")

    monkeypatch.setattr(workspace._searching, "check_space", and_then_another)
    with pytest.raises(SpaceMismatch, match="query vectors are of space"):
        workspace.predict(["dark"], [image(3)], options=PredictOptions(neighbours="shades"))


def test_ids_ask_with_their_rows_vectors_in_any_order(workspace):
    collection = brought_in(workspace)
    failed = Row("bad", None, status="error", error="truncated", decode="unknown")
    collection.upsert([failed], space_id=SPACE, decode=None)
    asked = ["r3", "r0", "r3"]
    found = workspace.search_ids("mine", asked, SearchOptions(k=10)).outcome.hits
    vectors = np.stack([row.embedding for row in collection.get(asked)])
    by_vectors = workspace.search_vectors("mine", vectors, SPACE, SearchOptions(k=10)).outcome.hits
    expected = [[hit for hit in hits if hit.id != name] for name, hits in zip(asked, by_vectors, strict=True)]
    assert found == expected
    assert workspace.search_ids("mine", []).outcome.hits == []
    with pytest.raises(InvalidArgument, match=r"row 'bad' has no embedding \(truncated\)"):
        workspace.search_ids("mine", ["r1", "bad"])
    unknown = [f"u{index}" for index in range(7)]
    with pytest.raises(RowNotFound, match="'mine' has no row 'u0', 'u1', 'u2', 'u3', 'u4' and 2 more"):
        workspace.search_ids("mine", ["r1", *unknown])


def test_the_bare_name_of_a_declared_space_will_do(workspace):
    brought_in(workspace)
    vectors = np.ones((1, 3), np.float32)
    named, whole = (workspace.search_vectors("mine", vectors, space) for space in ("mine", SPACE))
    assert named.outcome == whole.outcome
    for other in ("other", "", "declared:other", "sp1-00"):
        with pytest.raises(SpaceMismatch):
            workspace.search_vectors("mine", vectors, other)


def test_which_space_is_meant():
    declared = CollectionSpec(SPACE, 3, "", "", "unknown", declared=True)
    computed = CollectionSpec("sp1-ab", 3, "tiny@1", "ar1-00", "exact")
    assert [meant_space(declared, said) for said in ("mine", SPACE)] == [SPACE, SPACE]
    assert [meant_space(declared, said) for said in ("other", "", " ")] == ["other", "", " "]
    assert meant_space(computed, "ab") == "ab"


@pytest.mark.parametrize(
    ("metric", "options", "words"),
    [
        ("cosine", {"min_score": 1.5}, "min_score is 1.5, and cosines are at most 1: nothing would be found"),
        ("cosine", {"collapse": 2.0}, "collapse is 2, and cosines are at most 1: no row would be folded"),
        ("euclidean", {"min_score": 0.5}, "min_score is 0.5, .* minus the distance, at most 0"),
        ("euclidean", {"collapse": 0.5}, "collapse is 0.5, .* minus the distance, at most 0"),
    ],
)
def test_thresholds_above_every_score_are_refused(workspace, metric, options, words):
    brought_in(workspace, metric=metric)
    with pytest.raises(InvalidArgument, match=words):
        workspace.search_vectors("mine", np.ones((1, 3), np.float32), SPACE, SearchOptions(**options))
    with pytest.raises(InvalidArgument, match=words):
        workspace.search_ids("mine", ["r1"], SearchOptions(**options))


@pytest.mark.parametrize(("metric", "highest"), [("cosine", 1.0), ("euclidean", 0.0), ("dot", 1e9)])
def test_thresholds_that_a_score_may_reach_are_taken(workspace, metric, highest):
    brought_in(workspace, metric=metric)
    found = workspace.search_ids("mine", ["r1"], SearchOptions(min_score=highest, collapse=highest))
    assert found.outcome.hits == [[]]


def test_a_search_ends_with_its_caller(workspace, store_rows, image):
    store_rows("shades")
    vectors, space = np.ones((1, 48), np.float32), workspace.models.get("tiny").card.space_id
    gone = SearchOptions(), lambda: True
    for search in (
        lambda: workspace.search("shades", [image(3)], SearchOptions(), None, lambda: True),
        lambda: workspace.search_vectors("shades", vectors, space, *gone),
        lambda: workspace.search_ids("shades", ["r1"], *gone),
        lambda: workspace.measure_recall("shades", 2, 5, lambda: True),
    ):
        with pytest.raises(Cancelled):
            search()
