"""Radius, groups and folding: the definition, word for word, says the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import Cancelled
from trunkline_service.index.metric import pair_scores, prepared
from trunkline_service.index.shaping import Similarity, choose, within


def test_a_radius_counts_what_is_there_and_near_enough() -> None:
    scores = np.array([0.9, 0.5, 0.1, -np.inf], np.float32)
    slots = np.array([4, 2, 7, -1])
    assert [within(scores, slots, bound, "dot") for bound in (None, -1, 0.1, 0.3, 0.5, 0.9, 1)] == [
        3,
        3,
        3,
        2,
        2,
        1,
        0,
    ]


def test_a_radius_of_one_holds_all_that_is_equal() -> None:
    rng = np.random.default_rng(0)
    vectors = prepared(rng.standard_normal((500, 384)).astype(np.float32), "cosine")
    own = pair_scores(vectors, vectors[:, None], "cosine")
    assert (own < 1).any()
    assert all(within(score, np.array([0]), 1.0, "cosine") for score in own)
    other = np.array([1 - 1e-5], np.float32)
    assert not within(other, np.array([0]), 1.0, "cosine")
    # Of the others, what is less is less.
    for metric in ("dot", "euclidean"):
        assert not within(np.array([0.9999999], np.float32), np.array([0]), 1.0, metric)


def test_choosing_asks_now_and_then_whether_it_is_wanted() -> None:
    asked = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(Cancelled, match="called off; nothing was answered"):
        choose(100_000, 2, 1, ["one"] * 100_000, None, cancelled)
    assert len(asked) == 4


def defined(
    count: int, k: int, per_group: int, groups: list[str | None] | None, alike: np.ndarray | None
) -> tuple[list[int], list[list[int]], bool]:
    """The hits and what is folded into each; whether the candidates after them do not matter."""
    kept: list[int] = []
    folded: list[list[int]] = []
    for place in range(count):
        into = [index for index, hit in enumerate(kept) if alike is not None and alike[hit, place]]
        mine = [hit for hit in kept if groups and groups[hit] is not None and groups[hit] == groups[place]]
        opened = len({groups[hit] for hit in kept if groups and groups[hit] is not None})
        nulls = sum(groups[hit] is None for hit in kept) if groups else 0
        everything = (
            len(kept) == k
            if groups is None
            else opened + nulls == k
            and all(
                groups[hit] is None or sum(groups[other] == groups[hit] for other in kept) == per_group
                for hit in kept
            )
        )
        if into:
            folded[into[0]].append(place)
        elif everything:
            return kept, folded, True
        elif groups is not None and (len(mine) == per_group or (not mine and opened + nulls == k)):
            continue
        else:
            kept.append(place)
            folded.append([])
    return kept, folded, False


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 40),
    k=st.integers(1, 12),
    per_group=st.integers(1, 4),
    names=st.sampled_from([None, 1, 3, 30]),
    threshold=st.none() | st.floats(-1, 1),
)
def test_hits_are_as_they_are_defined(
    seed: int, count: int, k: int, per_group: int, names: int | None, threshold: float | None
) -> None:
    rng = np.random.default_rng(seed)
    groups = None
    if names is not None:
        groups = [None if rng.random() < 0.1 else f"g{rng.integers(names)}" for _ in range(count)]
    vectors = prepared(rng.integers(-2, 3, (count, 3)).astype(np.float32), "cosine")
    similar, alike = None, None
    if threshold is not None:
        # No score is so near to the threshold that rounding matters.
        products = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
        if np.abs(products - threshold).min(initial=1) < 1e-4:
            return
        similar, alike = Similarity(vectors, "cosine", threshold), products >= threshold
    chosen = choose(count, k, per_group, groups, similar)
    at, folded, settled = defined(count, k, per_group, groups, alike)
    assert (chosen.at, chosen.folded) == (at, folded)
    assert chosen.enough >= settled
    if chosen.enough and not settled:
        # Nothing is folded and there is no room: of further candidates none could be a hit.
        more = choose(count + 1, k, per_group, None if groups is None else [*groups, "new"], similar)
        assert (more.at, more.folded) == (at, folded)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_equal_vectors_are_nearly_the_same_however_long_they_are(metric: str) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((30, 64)) * np.logspace(-2, 3, 30)[:, None]
    rows = prepared(np.repeat(vectors, 2, axis=0).astype(np.float32), metric)
    for place in range(0, len(rows), 2):
        own = {"cosine": 1.0, "euclidean": 0.0, "dot": float(rows[place] @ rows[place]) * (1 - 1e-5)}[metric]
        alike = Similarity(rows, metric, own).to(place)
        assert alike[place : place + 2].all()
        assert metric == "dot" or alike.sum() == 2


def test_a_threshold_is_a_distance_for_a_collection_of_distances() -> None:
    rows = np.array([[0, 0], [3, 4], [6, 8]], np.float32)
    assert Similarity(rows, "euclidean", -5.0).to(0).tolist() == [True, True, False]
    assert Similarity(rows, "dot", 50.0).to(1).tolist() == [False, False, True]


def test_very_many_candidates_fold_in_bounded_memory_and_the_best_of_them_are_named() -> None:
    # All pairs of them would be 40 GB.
    rows = np.ones((100_000, 2), np.float32)
    chosen = choose(len(rows), 3, 1, None, Similarity(rows, "dot", 0.5))
    assert chosen.at == [0]
    assert chosen.folded == [list(range(1, 101))]
