"""Threads share rows out, and leave BLAS as they found it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from trunkline_service.index.workers import Workers, one_blas_thread_each

FOUR = Workers(4)


def blas() -> list[int]:
    """Threads of NumPy's BLAS; other packages bring BLAS of their own, which no search uses."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return [library["num_threads"] for library in found if "numpy" in library["filepath"]]


@settings(max_examples=100, deadline=None)
@given(threads=st.integers(1, 9), count=st.integers(0, 50), least=st.integers(0, 60))
def test_ranges_cover_all_rows_once_in_order(threads: int, count: int, least: int) -> None:
    workers = Workers(threads)
    ranges = workers.shared_out(count, least, lambda start, end: (start, end))
    workers.close()
    assert [row for start, end in ranges for row in range(start, end)] == list(range(count))
    assert 1 <= len(ranges) <= threads
    assert len(ranges) == 1 or all(end - start >= max(1, least) for start, end in ranges)


def test_parts_run_at_once() -> None:
    together = threading.Barrier(4)
    assert FOUR.shared_out(8, 2, lambda start, _: (together.wait(30), start)[1]) == [0, 2, 4, 6]


@pytest.mark.parametrize("bad", [0, 3])
def test_an_error_of_any_part_is_raised_and_the_next_search_is_served(bad: int) -> None:
    def run(start: int, _end: int) -> int:
        if start == bad:
            raise MemoryError("no room")
        return start

    before = blas()
    with pytest.raises(MemoryError):
        FOUR.shared_out(4, 1, run)
    assert blas() == before
    assert FOUR.shared_out(4, 1, lambda start, _: start) == [0, 1, 2, 3]


def test_blas_has_one_thread_until_the_last_search_ends_and_what_it_had_then() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(2, user_api="blas"):
        before = blas()
        inside, go_on = threading.Barrier(2), threading.Event()

        def search() -> None:
            with one_blas_thread_each():
                inside.wait(30)
                assert go_on.wait(30)

        other = threading.Thread(target=search)
        with one_blas_thread_each():
            other.start()
            inside.wait(30)
            within = blas()
        one_left = blas()
        go_on.set()
        other.join(30)
        assert before == blas() == [2]
        assert within == one_left == [1]


def test_it_serves_again_after_it_was_closed() -> None:
    workers = Workers(2)
    for _ in range(2):
        assert workers.shared_out(2, 1, lambda start, _: start) == [0, 1]
        workers.close()
    workers.close()
