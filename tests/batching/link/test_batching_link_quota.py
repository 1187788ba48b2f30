"""Bounds that several processes share: never exceeded, and outliving any of them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trunkline_service.batching.link.quota import QuotaTable, SharedAdmission
from trunkline_service.errors import InvalidArgument, Overloaded
from trunkline_service.settings import QueueLimits

LIMITS = QueueLimits(max_images=4, max_bytes=40)


@pytest.fixture
def table():
    made = QuotaTable.create(3)
    yield made
    os.close(made.fd)


@pytest.fixture
def process(table):
    """``process(row, what)`` starts one that shares the table; see ``quota_process.py``."""
    started = []

    def start(row, what):
        program = [sys.executable, "-m", "tests.batching.link.quota_process"]
        started.append(
            subprocess.Popen(
                [*program, str(table.fd), str(row), what],
                cwd=Path(__file__).resolve().parents[3],
                pass_fds=[table.fd],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def test_processes_that_admit_at_once_never_exceed_the_bounds(table, process):
    racers = [process(row, "admit") for row in range(2)]
    for racer in racers:
        assert racer.stdout.readline() == b"ready\n"
    for racer in racers:
        racer.stdin.write(b"go\n")
        racer.stdin.flush()
    refused = [racer.communicate()[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    # Else they never met.
    assert sum(map(int, refused)) > 0
    assert table.rows.sum() == 0


def test_who_dies_with_the_lock_holds_nobody_up_and_leaves_its_room(table, process, calls):
    holder = process(1, "lock")
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(OSError):  # noqa: PT011 - that it is locked is all there is to know
        fcntl.lockf(table.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    admission = SharedAdmission(table, 0, LIMITS)
    calls.start(admission.admit, 2, 20)
    holder.kill()
    holder.wait()
    assert calls.join() == [None]
    with pytest.raises(Overloaded):
        admission.admit(1, 1)
    table.clear(1)
    admission.admit(2, 20)
    assert (admission.images, admission.bytes) == (4, 40)


def test_what_others_admitted_counts_against_all_and_is_released_by_who_did(table):
    one, other = (SharedAdmission(table, row, LIMITS) for row in (0, 2))
    one.admit(3, 5)
    with pytest.raises(Overloaded) as caught:
        other.admit(2, 5)
    assert caught.value.retry_after_s > 0
    with pytest.raises(Overloaded):
        other.admit(1, 1, "bulk")
    with pytest.raises(InvalidArgument):
        other.admit(5, 1)
    other.admit(1, 35)
    assert (one.images, other.images, other.bytes) == (3, 1, 35)
    one.release(3, 5)
    assert table.rows.tolist() == [[0, 0], [0, 0], [1, 35]]


def test_how_long_to_wait_is_learned_from_batches(table):
    admission = SharedAdmission(table, 0, LIMITS)
    admission.admit(4, 4)
    waits = []
    for _ in range(2):
        with pytest.raises(Overloaded) as caught:
            admission.admit(1, 1)
        waits.append(caught.value.retry_after_s)
        for _ in range(100):
            admission.observe(1, 1.0)
    assert waits[1] > waits[0]
