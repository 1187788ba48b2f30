"""Radius, groups, folding and exclusion over a view equal the same over all its rows in order."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.index.points import segment, view_of

from trunkline_service.errors import Cancelled
from trunkline_service.index import finding, grouping, shaping
from trunkline_service.index.finding import Finder, Found
from trunkline_service.index.grouping import LabelGroups
from trunkline_service.index.hits import shaped_hits
from trunkline_service.index.query import SearchOptions
from trunkline_service.index.segment import at_fragments
from trunkline_service.index.shaping import Similarity, choose
from trunkline_service.index.view import Answer, Mask, View
from trunkline_service.index.workers import Workers


def view_with(
    vectors: NDArray[np.float32], labels: Sequence[str | None], split: int, dead: NDArray[np.bool_]
) -> View:
    """Rows in two parts, some of them dead."""
    first = segment(vectors[:split], labels[:split], metric="dot")
    view = view_of(first, segment(vectors[split:], labels[split:], split, metric="dot"), metric="dot")
    parts = zip(view.parts, (~dead[:split], ~dead[split:]), strict=True)
    return replace(view, parts=tuple(at_fragments(part, alive, part.fragment) for part, alive in parts))


def finder(
    view: View,
    options: SearchOptions,
    queries: NDArray[np.float32],
    asked: list[tuple[int, int]],
    allowed: tuple[Mask, ...] | None = None,
) -> Finder:
    def search_in(k: int, which: NDArray[np.int64], rows: tuple[Mask, ...] | None) -> Answer:
        asked.append((k, len(which)))
        return view.search(queries[which], k, rows, exact_rows=None, workers=Workers(1))

    def search(k: int, which: NDArray[np.int64]) -> Answer:
        return search_in(k, which, allowed)

    groups = None if options.group_by is None else LabelGroups(view)
    return Finder(view, options, search, groups, allowed, search_in)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 120),
    names=st.sampled_from([1, 4, 200]),
    few=st.sampled_from([1, 3, 64]),
    options=st.builds(
        SearchOptions,
        k=st.integers(1, 12),
        min_score=st.none() | st.floats(-3, 8),
        group_by=st.sampled_from([None, "label"]),
        per_group=st.integers(1, 3),
        collapse=st.none() | st.floats(0, 12),
    ),
    excludes=st.booleans(),
    filters=st.booleans(),
    apart=st.sampled_from([0, 256]),
)
def test_hits_equal_those_of_all_rows_in_order(
    seed: int,
    rows: int,
    names: int,
    few: int,
    options: SearchOptions,
    excludes: bool,
    filters: bool,
    apart: int,
) -> None:
    rng = np.random.default_rng(seed)
    # Whole numbers, so that no score is rounded: it is known which are equal.
    vectors = rng.integers(-2, 3, (rows, 3)).astype(np.float32)
    labels = [None if rng.random() < 0.1 else f"g{rng.integers(names)}" for _ in range(rows)]
    dead = rng.random(rows) < 0.2
    view = view_with(vectors, labels, int(rng.integers(0, rows + 1)), dead)
    queries = rng.integers(-2, 3, (4, 3)).astype(np.float32)
    excluded = [f"r{rng.integers(rows)}" if excludes else None for _ in queries]
    asked: list[tuple[int, int]] = []
    allowed = view.split(rng.random(rows) < 0.6) if filters else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shaping, "FEWEST", few)
        patch.setattr(finding, "_MOST_FOUND", 100)
        patch.setattr(grouping, "_MOST_APART", apart)
        found, exact = finder(view, options, queries, asked, allowed).find(excluded)
    assert exact
    assert all(k == 1 or k * count <= 100 or count == 1 for k, count in asked)
    (everything, slots, _) = view.search(queries, rows, allowed, exact_rows=None, workers=Workers(1))
    for query, hits in enumerate(found):
        assert hits == expected(view, options, everything[query], slots[query], excluded[query])


def expected(
    view: View,
    options: SearchOptions,
    scores: NDArray[np.float32],
    slots: NDArray[np.int64],
    excluded: str | None,
) -> Equal:
    kept = [
        place
        for place, slot in enumerate(slots.tolist())
        if slot >= 0
        and f"r{slot}" != excluded
        and (options.min_score is None or scores[place] >= np.float32(options.min_score))
    ]
    scores, slots = scores[kept], slots[kept]
    groups = LabelGroups(view).of(slots) if options.group_by else None
    similar = None
    if options.collapse is not None:
        similar = Similarity(view.vectors(slots), "dot", options.collapse)
    chosen = choose(len(slots), options.k, options.per_group, groups, similar)
    return Equal(
        slots[chosen.at].tolist(),
        scores[chosen.at].tolist(),
        [None if groups is None else groups[place] for place in chosen.at],
        [slots[places].tolist() for places in chosen.folded],
    )


class Equal:
    """Compares with a `Found`."""

    def __init__(
        self, slots: list[int], scores: list[float], groups: list[Hashable], folded: list[list[int]]
    ) -> None:
        self.values = slots, scores, groups, folded

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Found)
        assert self.values == (other.slots, other.scores, other.groups, other.folded)
        return True

    def __hash__(self) -> int:
        raise NotImplementedError


def test_more_is_asked_for_only_for_queries_that_lack_hits() -> None:
    vectors = np.concatenate([np.tile([[1.0, 0, 0]], (80, 1)), np.eye(3)]).astype(np.float32)
    labels = ["many"] * 80 + ["x", "y", "z"]
    view = view_with(vectors, labels, 40, np.zeros(83, bool))
    queries = np.array([[1, 0.1, 0], [0.1, 1, 0]], np.float32)
    asked: list[tuple[int, int]] = []
    found, _ = finder(view, SearchOptions(k=2, group_by="label"), queries, asked).find([None, None])
    assert [hits.groups for hits in found] == [["many", "x"], ["y", "many"]]
    # The query that lacks a group asks once for the best row of each: four groups, and no row without one.
    assert asked == [(64, 2)] + [(1, 1)] * 4


def test_so_many_candidates_are_compared_and_what_they_give_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shaping, "MOST_COMPARED", 100)
    vectors = np.concatenate([np.tile([[1.0, 0, 0]], (300, 1)), np.eye(3)[1:]]).astype(np.float32)
    view = view_with(vectors, [None] * 302, 40, np.zeros(302, bool))
    queries = np.array([[1, 0.1, 0], [0, 1, 0]], np.float32)
    asked: list[tuple[int, int]] = []
    options = SearchOptions(k=2, collapse=0.5)
    found, exact = finder(view, options, queries[:1], asked).find([None])
    assert [hits.slots for hits in found] == [[0]]
    assert [hits.complete for hits in found] == [exact] == [False]
    assert asked == [(64, 1), (100, 1)]
    # Where that many are all there are, or a radius holds fewer, nothing is left out.
    monkeypatch.setattr(shaping, "MOST_COMPARED", 302)
    assert finder(view, options, queries, asked).find([None] * 2)[1]
    monkeypatch.setattr(shaping, "MOST_COMPARED", 100)
    near = SearchOptions(k=2, collapse=0.5, min_score=0.5)
    assert finder(view, near, queries[1:], asked).find([None])[1]


@pytest.mark.parametrize("options", [SearchOptions(k=5, collapse=0.5), SearchOptions(k=5, group_by="label")])
def test_what_is_called_off_is_looked_for_no_longer(options: SearchOptions) -> None:
    vectors = np.tile(np.eye(3, dtype=np.float32), (100, 1))
    view = view_with(vectors, ["a", "b", "c"] * 100, 3, np.zeros(300, bool))
    asked: list[tuple[int, int]] = []
    looked = finder(view, options, vectors[:3], asked)
    searches = []
    for most in itertools.count():
        left = iter(range(most))
        asked.clear()
        try:
            found, _ = looked.find([None] * 3, cancelled=lambda left=left: next(left, None) is None)
        except Cancelled:
            searches.append(len(asked))
            continue
        break
    assert len(found) == 3
    assert searches == sorted(searches)
    assert set(searches) == set(range(len(asked) + 1))


def test_one_more_than_k_is_asked_for_where_a_row_is_excluded() -> None:
    view = view_with(np.eye(3, dtype=np.float32), [None] * 3, 3, np.zeros(3, bool))
    asked: list[tuple[int, int]] = []
    found, _ = finder(view, SearchOptions(k=1), np.eye(3, dtype=np.float32), asked).find(
        ["r0", None, "absent"]
    )
    assert asked == [(2, 3)]
    assert [hits.slots for hits in found] == [[1], [1], [2]]


def test_hits_have_the_texts_of_their_rows() -> None:
    view = view_with(np.eye(4, dtype=np.float32), ["a", "b", None, "b"], 2, np.zeros(4, bool))
    found = [Found([3, 0], [0.5, 0.25], ["b", None], [[1, 2], []]), Found([], [], [], [])]
    (first, second), none = shaped_hits(view, found)
    assert none == []
    assert (first.id, first.label, first.source, first.score) == ("r3", "b", "r3", 0.5)
    assert (first.group, first.duplicates) == ("b", ("r1", "r2"))
    assert (second.id, second.label, second.group, second.duplicates) == ("r0", "a", None, ())
