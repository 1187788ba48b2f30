"""Percentiles and windows: what counts, and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.bench.tape import OK, Tape, Window, percentile

VALUES = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=200)


@given(VALUES, st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_as_many_do_not_exceed(values, percent):
    ascending = np.sort(np.array(values))
    found = percentile(ascending, percent)
    assert 100 * (ascending <= found).sum() >= percent * len(values)
    assert 100 * (ascending < found).sum() < percent * len(values)


def test_there_is_no_percentile_of_nothing():
    assert percentile(np.zeros(0), 50) is None


def test_the_hundredth_percentile_is_the_longest():
    assert percentile(np.array([1.0, 2.0, 9.0]), 100) == 9.0


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.integers(0, 16)), max_size=60))
def test_throughput_counts_what_was_answered_within_the_window(calls):
    tape = Tape()
    for due, took, images in calls:
        tape.add(due, due, due + took, images, OK)
    figures = tape.figures(Window(2.0, 7.0, 0.5))
    ended = [(due + took, images) for due, took, images in calls if 2.0 <= due + took < 7.0]
    assert (figures.calls, figures.images) == (len(ended), sum(images for _, images in ended))
    assert figures.images_per_second == figures.images / 5


def test_a_slow_call_stays_in_the_latencies_though_the_window_closed_before_it_ended():
    tape = Tape()
    tape.add(1.0, 1.0, 1.25, 1, OK)
    tape.add(1.5, 1.5, 30.0, 1, OK)
    figures = tape.figures(Window(0.0, 2.0, 0.0))
    assert figures.calls == 1
    assert figures.max_ms == 28_500


def test_the_warm_up_is_in_nothing():
    tape = Tape()
    tape.add(0.5, 0.5, 0.9, 1, "UNAVAILABLE")
    tape.add(0.5, 0.5, 0.9, 1, OK)
    tape.overflow(0.6)
    figures = tape.figures(Window(1.0, 2.0, 0.0))
    assert (figures.calls, figures.images, figures.errors, figures.overflow) == (0, 0, {}, 0)
    assert figures.p50_ms is None
    assert figures.generator_ms_per_call is None


def test_failed_calls_are_counted_by_status_and_make_no_latency():
    tape = Tape()
    tape.add(1.0, 1.0, 1.001, 0, "RESOURCE_EXHAUSTED")
    tape.add(1.0, 1.0, 1.001, 0, "RESOURCE_EXHAUSTED")
    tape.add(1.0, 1.0, 1.5, 3, "truncated_image")
    tape.add(1.0, 1.0, 1.25, 4, OK)
    figures = tape.figures(Window(0.0, 2.0, 0.01))
    assert figures.errors == {"RESOURCE_EXHAUSTED": 2, "truncated_image": 1}
    assert (figures.calls, figures.p50_ms, figures.max_ms) == (1, 250, 250)
    # The images that a call did serve were served.
    assert figures.images == 7
    assert figures.generator_ms_per_call == pytest.approx(10)


def test_lateness_is_from_when_a_call_was_due():
    tape = Tape()
    tape.add(1.0, 1.25, 1.5, 1, OK)
    figures = tape.figures(Window(0.0, 2.0, 0.0))
    assert (figures.late_p99_ms, figures.p50_ms) == (250, 500)
