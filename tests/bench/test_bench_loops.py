"""The two loops, in time that stands still unless they wait."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.bench.load import Periods, arrivals
from trunkline_service.bench.loops import closed_loop, open_loop
from trunkline_service.bench.tape import OK, Tape

PERIODS = Periods(1.0, 10.0)


@given(st.floats(1, 500), st.floats(0.1, 5), st.integers())
def test_arrivals_ascend_within_their_time(rate, seconds, seed):
    dues = list(arrivals(rate, seconds, random.Random(seed)))
    assert dues == sorted(dues)
    assert all(0 < due < seconds for due in dues)


def test_arrivals_come_at_their_rate_and_at_random():
    dues = list(arrivals(100, 1000, random.Random(1)))
    # A Poisson process: 100,000 calls, give or take five standard deviations.
    assert abs(len(dues) - 100_000) < 5 * 100_000**0.5
    gaps = [later - earlier for earlier, later in itertools.pairwise(dues)]
    # Gaps of an exponential distribution: their median is ln 2 of their mean.
    assert sorted(gaps)[len(gaps) // 2] == pytest.approx(0.00693, rel=0.03)


def server_of(time, seconds, status=OK):
    """A server that answers after so long, and how many calls it holds."""
    held = {"now": 0, "most": 0, "calls": []}

    async def call(caller, turn):
        held["calls"].append((caller, turn))
        held["now"] += 1
        held["most"] = max(held["most"], held["now"])
        await time.until(time.now + seconds)
        held["now"] -= 1
        return (1 if status == OK else 0), status

    return call, held


@pytest.mark.parametrize("callers", [1, 3])
def test_a_closed_loop_keeps_every_caller_waiting_for_one_answer(in_fake_time, callers):
    tape, seen = Tape(), {}

    def work(time):
        call, held = server_of(time, 0.25)
        seen.update(held=held)
        return closed_loop(call, callers, PERIODS, time.rim, tape)

    window = in_fake_time(work)
    figures = tape.figures(window)
    assert (window.start, window.end) == (1.0, 11.0)
    assert seen["held"]["most"] == callers
    assert figures.calls_per_second == pytest.approx(callers / 0.25, abs=callers * 0.1)
    assert (figures.p50_ms, figures.max_ms) == (250, 250)
    assert {caller for caller, _ in seen["held"]["calls"]} == set(range(callers))


def test_callers_that_are_refused_at_once_do_not_ask_in_a_frenzy(in_fake_time):
    tape = Tape()
    window = in_fake_time(
        lambda time: closed_loop(server_of(time, 0.0, "UNAVAILABLE")[0], 2, PERIODS, time.rim, tape)
    )
    (count,) = tape.figures(window).errors.values()
    assert count == pytest.approx(2 * 10 / 0.01, rel=0.01)


def test_an_open_loop_asks_whether_or_not_it_was_answered(in_fake_time):
    tape, seen = Tape(), {}
    dues = [0.5 * number for number in range(22)]

    def work(time):
        call, held = server_of(time, 5.0)
        seen.update(held=held)
        return open_loop(call, dues, 100, PERIODS, time.rim, tape)

    figures = tape.figures(in_fake_time(work))
    assert len(seen["held"]["calls"]) == 22
    assert seen["held"]["most"] == 10
    assert figures.p50_ms == 5000
    assert figures.overflow == 0


def test_latency_counts_from_when_a_call_was_due_though_it_was_sent_late(in_fake_time):
    """No coordinated omission: the machine stood still for three seconds, and every call due then shows it."""
    tape = Tape()

    def work(time):
        async def call(caller, turn):
            if caller == 2:
                # As a generator that is starved: the clock runs, and nothing else does.
                time.now += 3.0
            return 1, OK

        return open_loop(call, [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], 100, PERIODS, time.rim, tape)

    figures = tape.figures(in_fake_time(work))
    assert figures.max_ms == 3000
    assert figures.late_p99_ms == 2000


def test_what_a_hanging_server_is_not_sent_is_counted(in_fake_time):
    tape = Tape()
    dues = [1.0 + 0.5 * number for number in range(19)]
    window = in_fake_time(
        lambda time: open_loop(server_of(time, 1000.0)[0], dues, 4, PERIODS, time.rim, tape)
    )
    figures = tape.figures(window)
    assert figures.overflow == 15
    # They were answered in the end, long after the window, and count with how long that took.
    assert (figures.calls, figures.max_ms) == (0, 1_000_000)


@pytest.mark.parametrize("loop", ["closed", "open"])
def test_a_stop_ends_the_window_and_drops_what_is_unanswered(in_fake_time, loop):
    tape = Tape()
    cancelled = []

    def work(time):
        async def call(caller, turn):
            if time.now >= 5.0:
                time.stop.set()
                try:
                    await time.until(1000.0)
                except asyncio.CancelledError:
                    cancelled.append(caller)
                    raise
            await time.until(time.now + 0.5)
            return 1, OK

        if loop == "closed":
            return closed_loop(call, 1, PERIODS, time.rim, tape)
        return open_loop(call, [0.5 * number for number in range(22)], 100, PERIODS, time.rim, tape)

    window = in_fake_time(work)
    assert (window.start, window.end) == (1.0, 5.0)
    assert len(cancelled) == 1
    # Answers at 1.0, 1.5, ... 4.5; the one at 5.0 came when the window was over.
    assert tape.figures(window).calls == 8


def test_a_stop_before_the_window_leaves_nothing_to_tell(in_fake_time):
    def work(time):
        async def call(caller, turn):
            time.stop.set()
            return 1, OK

        return closed_loop(call, 1, PERIODS, time.rim, Tape())

    assert in_fake_time(work) is None


def test_a_defect_in_a_call_is_not_swallowed(in_fake_time):
    def work(time):
        async def call(caller, turn):
            raise KeyError("defect")

        return closed_loop(call, 1, PERIODS, time.rim, Tape())

    with pytest.raises(KeyError, match="defect"):
        in_fake_time(work)


def test_the_generators_processor_time_is_that_of_the_window(in_fake_time):
    def work(time):
        async def call(caller, turn):
            time.cpu += 0.002
            await time.until(time.now + 0.5)
            return 1, OK

        tape = Tape()

        async def measured():
            window = await closed_loop(call, 1, PERIODS, time.rim, tape)
            return tape.figures(window)

        return measured()

    figures = in_fake_time(work)
    assert figures.generator_ms_per_call == pytest.approx(2.0, rel=0.06)
