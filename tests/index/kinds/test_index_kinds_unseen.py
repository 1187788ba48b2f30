"""Which lists a query looks into further."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trunkline_service.index.kinds.unseen import Unseen

Floats = NDArray[np.float32]


class Case(NamedTuple):
    means: Floats
    deviations: Floats
    rows: NDArray[np.int64]
    seen: NDArray[np.int64]
    kth: Floats
    left: float


def case(seed: int, left: float) -> Case:
    rng = np.random.default_rng(seed)
    queries, lists = int(rng.integers(1, 5)), int(rng.integers(2, 30))
    means = rng.normal(size=(queries, lists)).astype(np.float32)
    deviations = rng.uniform(0.05, 1, (queries, lists)).astype(np.float32)
    rows = rng.integers(0, 200, lists) * (rng.random(lists) < 0.8)
    seen = np.stack([rng.permutation(lists)[:2] for _ in range(queries)])
    seen[rng.random(seen.shape) < 0.3] = -1
    kth = rng.normal(1, 1, queries).astype(np.float32)
    kth[rng.random(queries) < 0.2] = np.inf
    return Case(means, deviations, rows, seen, kth, left)


def better(one: Case, query: int) -> dict[int, float]:
    """The rows better than the k-th that each list is expected to hold."""
    if np.isinf(one.kth[query]):
        return {}
    return {
        place: one.rows[place]
        * math.erfc((one.kth[query] - one.means[query, place]) / one.deviations[query, place] / math.sqrt(2))
        / 2
        for place in range(len(one.rows))
        if place not in one.seen[query]
    }


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 10_000), left=st.sampled_from([0.003, 0.1, 1.0, 30.0]))
def test_a_query_looks_until_no_more_is_expected_elsewhere_than_may_be_left(seed: int, left: float) -> None:
    one = case(seed, left)
    unseen = Unseen(one.means.copy(), one.deviations, one.rows, one.seen, one.kth, left)

    queries, lists, rows = unseen.worth(one.kth, most=100)

    assert rows.tolist() == [int(one.rows[chosen[chosen >= 0]].sum()) for chosen in lists]
    looked = dict(zip(queries.tolist(), lists, strict=True))
    for query in range(len(one.kth)):
        expected = better(one, query)
        chosen = [place for place in looked.get(query, np.empty(0, int)).tolist() if place >= 0]
        rest = sum(value for place, value in expected.items() if place not in chosen)
        # Lists too far away to count may hold a tenth of it together; deviations are told apart by a 200th.
        assert rest <= 1.15 * left + 1e-9
        assert len(set(chosen)) == len(chosen)
        if chosen:
            least = min(expected[place] for place in chosen)
            assert all(
                value <= 1.05 * least + 1e-9 for place, value in expected.items() if place not in chosen
            )
            # One list less would have left too much.
            assert rest + least > 0.85 * left
        else:
            assert sum(expected.values()) <= 1.15 * left + 1e-9


def test_no_more_lists_than_allowed_at_a_time_and_none_twice() -> None:
    means = np.array([[0.0, 0.9, 0.8, 0.7, 0.6]], np.float32)
    deviations, rows = np.full((1, 5), 0.2, np.float32), np.full(5, 100)
    kth = np.array([1.0], np.float32)
    unseen = Unseen(means, deviations, rows, np.array([[0]]), kth, 0.01)

    taken = [unseen.worth(kth, most=2) for _ in range(3)]

    assert [worth.lists.tolist() for worth in taken] == [[[1, 2]], [[3, 4]], []]
    assert [worth.queries.tolist() for worth in taken] == [[0], [0], []]
    assert [worth.rows.tolist() for worth in taken] == [[400], [200], []]


def test_a_better_kth_row_leaves_less_to_look_for() -> None:
    means = np.array([[0.9, 0.5]], np.float32)
    deviations, rows = np.full((1, 2), 0.1, np.float32), np.full(2, 100)
    unseen = Unseen(means, deviations, rows, np.array([[-1]]), np.array([0.8], np.float32), 0.1)

    worth = unseen.worth(np.array([0.8], np.float32), most=1)
    assert (worth.queries.tolist(), worth.lists.tolist()) == ([0], [[0]])
    assert not len(unseen.worth(np.array([0.99], np.float32), most=1).queries)


@pytest.mark.parametrize(("deviation", "kth"), [(0.0, 0.5), (np.inf, np.inf)])
def test_a_list_of_which_no_number_comes_holds_nothing_better(deviation: float, kth: float) -> None:
    means, deviations = np.array([[0.5]], np.float32), np.array([[deviation]], np.float32)
    unseen = Unseen(means, deviations, np.array([9]), np.array([[-1]]), np.array([0.4], np.float32), 0.1)

    assert not len(unseen.worth(np.array([kth], np.float32), most=8).queries)
