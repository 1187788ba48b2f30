"""Equal bytes are embedded once, whoever comes first, and what fails is not remembered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.errors import UnsupportedImage
from trunkline_service.jobs.contents import Contents, Outcome


def outcome(value, floats=4):
    return Outcome(np.full(floats, value, np.float32), None)


def test_the_first_claims_and_the_others_get_its_outcome():
    contents = Contents(10_000)
    first, mine = contents.claim("a")
    again, theirs = contents.claim("a")
    assert (mine, theirs) == (True, False)
    assert again is first
    contents.settle("a", outcome(1))
    assert contents.claim("a")[0].result().vector[0] == 1


def test_an_error_is_an_outcome_too():
    contents = Contents(10_000)
    contents.claim("a")
    contents.settle("a", Outcome(None, UnsupportedImage("no image")))
    future, mine = contents.claim("a")
    assert not mine
    assert isinstance(future.result().error, UnsupportedImage)


def test_what_was_given_up_is_claimed_anew_and_those_who_waited_are_told():
    contents = Contents(10_000)
    waiting, _ = contents.claim("a")
    contents.give_up("a", RuntimeError("the disk is full"))
    with pytest.raises(RuntimeError, match="full"):
        waiting.result()
    assert contents.claim("a")[1]


def test_giving_up_what_is_settled_changes_nothing():
    contents = Contents(10_000)
    contents.claim("a")
    contents.settle("a", outcome(3))
    contents.give_up("a", RuntimeError("later"))
    assert contents.claim("a")[0].result().vector[0] == 3


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(0, 20_000))
def test_memory_is_bounded_and_nothing_under_way_is_forgotten(order, most_bytes):
    contents = Contents(most_bytes)
    under_way, _ = contents.claim("under way")
    for number in order:
        future, mine = contents.claim(str(number))
        if mine:
            contents.settle(str(number), outcome(number))
        assert future.result().vector[0] == number
        # The last one stays whatever its size.
        assert contents._bytes <= max(most_bytes, 400 + 16)
    assert contents.claim("under way") == (under_way, False)


def test_many_threads_embed_each_content_once():
    contents = Contents(1_000_000)
    made = []

    def want(number):
        key = str(number % 10)
        future, mine = contents.claim(key)
        if mine:
            made.append(key)
            contents.settle(key, outcome(int(key)))
        return float(future.result().vector[0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(want, range(500))) == [number % 10 for number in range(500)]
    assert sorted(made) == [str(number) for number in range(10)]
