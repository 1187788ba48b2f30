"""Shared memory in pieces: laws by a state machine, and threads that wait for a piece."""

from __future__ import annotations

import mmap
import os
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.batching.link.conftest import PATIENCE_S

from trunkline_service.batching.link.arena import Arena, Mapping
from trunkline_service.errors import Unavailable

LINE = 64
LINES = 16


class Lending(RuleBasedStateMachine):
    """Loans against a plain account of who has which lines."""

    def __init__(self):
        super().__init__()
        self.arena = Arena(LINES * LINE)
        self.loans = []

    def teardown(self):
        for offset, size in self.loans:
            self.arena.give_back(offset, size)
        # Only if everything has grown together again.
        assert self.arena.take(LINES * LINE) == 0
        self.arena.close_fd()

    def taken(self):
        return [
            line for offset, size in self.loans for line in range(offset // LINE, -(-(offset + size) // LINE))
        ]

    def longest_gap(self):
        taken, longest, run = set(self.taken()), 0, 0
        for line in range(LINES):
            run = 0 if line in taken else run + 1
            longest = max(longest, run)
        return longest * LINE

    @rule(size=st.integers(1, LINES * LINE))
    def take(self, size):
        if size > self.longest_gap():
            with pytest.raises(TimeoutError):
                self.arena.take(size, 0)
            return
        offset = self.arena.take(size, 0)
        assert offset % LINE == 0
        assert 0 <= offset <= self.arena.size - size
        self.loans.append((offset, size))

    @precondition(lambda self: self.loans)
    @rule(data=st.data())
    def give_back(self, data):
        offset, size = self.loans.pop(data.draw(st.integers(0, len(self.loans) - 1)))
        self.arena.give_back(offset, size)

    @invariant()
    def nothing_overlaps_and_nothing_is_lost(self):
        taken = self.taken()
        assert len(set(taken)) == len(taken)
        assert self.arena.lent == len(taken) * LINE


TestLending = Lending.TestCase
TestLending.settings = settings(max_examples=60, deadline=None)


@pytest.fixture
def arena():
    made = Arena(4 * LINE)
    yield made
    made.close_fd()


def test_both_mappings_show_the_same(arena):
    other = Mapping(arena.fd, arena.size)
    offset = arena.take(12)
    arena.view(offset, (2, 2, 3), np.uint8)[:] = np.arange(12).reshape(2, 2, 3)
    assert other.view(offset, (12,), np.uint8).tolist() == list(range(12))
    other.view(offset, (3,), np.float32)[:] = (1, 2, 3)
    assert arena.view(offset, (3,), np.float32).tolist() == [1, 2, 3]


@pytest.mark.parametrize(("offset", "size"), [(4 * LINE, 1), (0, 4 * LINE + 1), (1 << 60, 1)])
def test_nothing_is_shown_beyond_the_memory(arena, offset, size):
    with pytest.raises(ValueError):  # noqa: PT011 - NumPy's words
        arena.view(offset, (size,), np.uint8)


def test_more_than_there_is_can_never_be_lent(arena):
    with pytest.raises(MemoryError):
        arena.take(4 * LINE + 1)


@pytest.fixture
def waiting(arena, calls):
    """The whole arena is lent, and three wait for pieces of it."""
    assert arena.take(4 * LINE) == 0
    for _ in range(3):
        calls.start(arena.take, LINE)
    while len(arena._changed._waiters) < 3:
        threading.Event().wait(0.001)
    return calls


def test_who_waits_gets_what_is_given_back(arena, waiting):
    arena.give_back(0, 4 * LINE)
    assert sorted(waiting.join()) == [0, LINE, 2 * LINE]


def test_who_waits_is_told_that_it_is_over(arena, waiting):
    arena.close("the device's process ended")
    outcomes = waiting.join()
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    # Each its own: an exception that several threads raise collects the tracebacks of all.
    assert len({id(outcome) for outcome in outcomes}) == 3
    with pytest.raises(Unavailable):
        arena.take(1, PATIENCE_S)


def test_memory_that_could_shrink_is_refused():
    fd = os.memfd_create("shrinking", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, mmap.PAGESIZE)
        with pytest.raises(ValueError, match="sealed"):
            Mapping(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)
