"""A part is searched with as much effort as a filter asks for, and exactly where that is not enough."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.index.points import Sighted, level, segment

from trunkline_service.index import exact
from trunkline_service.index.kinds.building import build
from trunkline_service.index.metric import prepared
from trunkline_service.index.options import IndexKind
from trunkline_service.index.probing import search_part
from trunkline_service.index.segment import Part, at_fragments, whole
from trunkline_service.index.workers import Workers

ALONE = Workers(1)
RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((1000, 4), np.float32)
QUERIES = prepared(RNG.standard_normal((3, 4), np.float32), "cosine")


def part_of(effort: int, k: int = 1000) -> Part:
    rows = segment(VECTORS, effort=1)
    return whole(replace(rows, levels=(level(effort, k),)), np.zeros(1000, np.int32))


def asked(part: Part) -> list[tuple[int, int]]:
    assert isinstance(part.segment.approximate, Sighted)
    return part.segment.approximate.asked


def brute(part: Part, k: int, allowed: np.ndarray | None = None) -> exact.Positions:
    return exact.nearest(QUERIES, part.segment.vectors, k, "cosine", part.allowed(allowed))[1]


def test_without_a_filter_the_structure_is_asked_with_the_effort_that_was_measured() -> None:
    part = part_of(500)
    scores, positions, was_exact = search_part(part, QUERIES, 5, "cosine", None, exact_rows=10, workers=ALONE)
    assert (asked(part), was_exact) == ([(3, 500)], False)
    assert (positions < 500).all()
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("exact_rows", [None, 400, 10_000])
def test_few_rows_or_a_wish_for_exactness_need_no_structure(exact_rows: int | None) -> None:
    part = part_of(500)
    allowed = np.arange(1000) >= 600
    _, positions, was_exact = search_part(
        part, QUERIES, 5, "cosine", allowed, exact_rows=exact_rows, workers=ALONE
    )
    assert (asked(part), was_exact) == ([], True)
    assert (positions == brute(part, 5, allowed)).all()


def test_neighbours_beyond_those_that_were_measured_are_compared_exactly() -> None:
    part = part_of(500, k=10)
    # One more: the row that asks is left out of its own neighbours.
    for k, was_exact in ((10, False), (11, False), (12, True)):
        assert search_part(part, QUERIES, k, "cosine", None, exact_rows=0, workers=ALONE)[2] is was_exact


def test_the_effort_grows_as_a_filters_share_falls() -> None:
    part = part_of(10)
    for share in (1.0, 0.5, 0.3, 0.1, 0.05):
        allowed = np.arange(1000) < 1000 * share
        search_part(part, QUERIES, 5, "cosine", allowed, exact_rows=5, workers=ALONE)
    efforts = [effort for _, effort in asked(part)]
    assert efforts == sorted(efforts)
    assert all(
        effort * share >= 10 for effort, share in zip(efforts, (1.0, 0.5, 0.3, 0.1, 0.05), strict=True)
    )
    assert max(efforts) <= 1000


def test_a_graph_is_not_walked_for_a_small_share_of_its_rows() -> None:
    part = part_of(10)
    assert isinstance(part.segment.approximate, Sighted)
    part.segment.approximate.kind = "hnsw"
    for share, walked in ((1.0, True), (0.9, True), (0.01, False)):
        allowed = np.arange(1000) < 1000 * share
        was_exact = search_part(part, QUERIES, 5, "cosine", allowed, exact_rows=5, workers=ALONE)[2]
        assert was_exact is not walked


def test_dead_rows_are_not_found() -> None:
    part = part_of(1000)
    best = brute(part, 1)[:, 0]
    alive = np.ones(1000, bool)
    alive[best] = False
    dead = at_fragments(part, alive, part.fragment)
    _, positions, _ = search_part(dead, QUERIES, 5, "cosine", None, exact_rows=10, workers=ALONE)
    assert not np.isin(best, positions).any()
    assert (positions == brute(dead, 5)).all()


CENTRES = 12


@cache
def clustered() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Rows in clusters, the cluster of each, and queries of the first cluster."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((CENTRES, 16)) * 3
    own = rng.integers(CENTRES, size=3600)
    rows = centres[own] + rng.standard_normal((3600, 16))
    asking = centres[0] + rng.standard_normal((60, 16))
    return prepared(rows.astype(np.float32), "cosine"), own, prepared(asking.astype(np.float32), "cosine")


@cache
def indexed(kind: IndexKind) -> Part:
    """With efforts that find 0.99 of the neighbours where all rows may be found."""
    rows = clustered()[0]
    structure = build(
        kind,
        rows,
        metric="cosine",
        parameters={"hnsw": {"M": 16, "efConstruction": 80}}.get(kind, {"nlist": 120, "k_factor": 4}),
        progress=lambda phase, done: None,
        cancelled=lambda: False,
        threads=2,
    )
    efforts = {10: 40, 100: 150, 1000: 1500} if kind == "hnsw" else {10: 12, 100: 16, 1000: 40}
    levels = tuple(level(effort, k) for k, effort in efforts.items())
    return whole(replace(segment(rows), approximate=structure, levels=levels), np.zeros(len(rows), np.int32))


def found_of(part: Part, k: int, allowed: NDArray[np.bool_] | None = None) -> tuple[float, bool]:
    """The recall of the queries, and whether all rows were compared."""
    rows, _, asking = clustered()
    _, positions, was_exact = search_part(part, asking, k, "cosine", allowed, exact_rows=100, workers=ALONE)
    true = exact.nearest(asking, rows, k, "cosine", part.allowed(allowed))[1]
    hits = [len(np.intersect1d(mine, right)) / k for mine, right in zip(positions, true, strict=True)]
    return float(np.mean(hits)), was_exact


@pytest.mark.parametrize("kind", ["hnsw", "ivf_flat", "ivf_sq8"])
@pytest.mark.parametrize("k", [10, 50])
def test_neighbours_are_found_where_all_rows_near_the_query_are_dead_or_filtered_away(
    kind: IndexKind, k: int
) -> None:
    part, own = indexed(kind), clustered()[1]
    assert found_of(part, k)[0] >= 0.99
    elsewhere = own != 0
    assert found_of(at_fragments(part, elsewhere, part.fragment), k) == (pytest.approx(1, abs=0.01), False)
    assert found_of(part, k, elsewhere) == (pytest.approx(1, abs=0.01), False)
    # Only half of them; and some of all.
    thinned = elsewhere | (np.arange(len(own)) % 2 == 0)
    assert found_of(at_fragments(part, thinned, part.fragment), k)[0] >= 0.99
    some = np.random.default_rng(6).random(len(own)) < 0.8
    assert found_of(at_fragments(part, some, part.fragment), k, thinned)[0] >= 0.99


@pytest.mark.parametrize("kind", ["hnsw", "ivf_flat"])
def test_few_dead_rows_ask_for_few_more_and_no_more_effort(kind: IndexKind) -> None:
    part = part_of(500)
    assert isinstance(part.segment.approximate, Sighted)
    part.segment.approximate.kind = kind
    alive = np.ones(1000, bool)
    alive[::100] = False
    dead = at_fragments(part, alive, part.fragment)
    _, positions, was_exact = search_part(dead, QUERIES, 5, "cosine", None, exact_rows=10, workers=ALONE)
    assert (asked(part), was_exact) == ([(3, 500)], False)
    assert (positions == brute(dead, 5, np.arange(1000) < 500)).all()


def test_a_query_that_finds_too_few_asks_again_alone_with_more_effort_and_exactly_in_the_end() -> None:
    part = part_of(2)
    # The structure sees a few rows, of which none is allowed.
    allowed = np.arange(1000) >= 500
    scores, positions, _ = search_part(part, QUERIES, 5, "cosine", allowed, exact_rows=10, workers=ALONE)
    counts, efforts = zip(*asked(part), strict=True)
    assert set(counts) == {3}
    assert efforts[0] < 500
    assert all(later == 4 * effort for effort, later in pairwise(efforts))
    assert efforts[-1] < 1000 <= 4 * efforts[-1]
    assert (positions == brute(part, 5, allowed)).all()
    assert np.isfinite(scores).all()


class HalfBlind(Sighted):
    """Only what its first query asks is seen in full; of the others nothing is with less than all effort."""

    def search(self, queries, k, effort, allowed=None, threads=1):  # type: ignore[no-untyped-def]
        scores, positions = super().search(
            queries, k, len(self) if len(queries) > 1 else effort, allowed, threads
        )
        self.asked[-1] = len(queries), effort
        if len(queries) > 1:
            scores[1:, 2:], positions[1:, 2:] = -np.inf, -1
        return scores, positions


def test_only_the_queries_that_lack_neighbours_are_asked_again() -> None:
    part = part_of(100)
    part = replace(part, segment=replace(part.segment, approximate=HalfBlind(part.segment.vectors)))
    _, positions, _ = search_part(part, QUERIES, 5, "cosine", None, exact_rows=10, workers=ALONE)
    assert asked(part) == [(3, 100), (2, 400)]
    assert (positions == brute(part, 5)).all()


def test_an_effort_of_nothing_ends_too() -> None:
    part = part_of(0)
    _, positions, _ = search_part(part, QUERIES, 5, "cosine", None, exact_rows=10, workers=ALONE)
    assert (positions >= 0).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    effort=st.integers(1, 1200),
    k=st.integers(1, 40),
    share=st.sampled_from([None, 0.0, 0.02, 0.5, 1.0]),
    dying=st.sampled_from([0.0, 0.3, 0.97, 1.0]),
    exact_rows=st.sampled_from([None, 0, 30, 500]),
)
def test_there_are_always_k_hits_where_there_are_k_rows(
    seed: int, effort: int, k: int, share: float | None, dying: float, exact_rows: int | None
) -> None:
    rng = np.random.default_rng(seed)
    part = part_of(effort)
    part = at_fragments(part, rng.random(1000) >= dying, part.fragment)
    allowed = None if share is None else rng.random(1000) < share
    scores, positions, was_exact = search_part(
        part, QUERIES, k, "cosine", allowed, exact_rows=exact_rows, workers=ALONE
    )
    may = part.alive if allowed is None else part.alive & allowed
    found = min(k, int(may.sum()))
    assert scores.shape == positions.shape == (3, k)
    assert (positions[:, found:] == -1).all()
    assert np.isneginf(scores[:, found:]).all()
    assert may[positions[:, :found]].all()
    assert all(len(set(row[:found])) == found for row in positions.tolist())
    if was_exact:
        assert (positions == brute(part, k, allowed)).all()
