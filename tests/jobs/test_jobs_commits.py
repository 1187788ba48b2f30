"""Commits: by number, by time, in order; a failure is not lost, and nothing is written after it."""

from __future__ import annotations

import pytest

from trunkline_service.errors import StorageError
from trunkline_service.jobs.chunk import Done
from trunkline_service.jobs.commits import Commits
from trunkline_service.jobs.stages import StageTimes


class Target:
    """Notes what it was given."""

    def __init__(self, fails_at=None):
        self.commits, self.tidied, self.fails_at = [], 0, fails_at

    def upsert(self, rows):
        self.write(rows)

    def refresh(self, rows):
        self.write([f"refreshed {row}" for row in rows])

    def touch(self, touched):
        self.write([f"touched {row}" for row in touched])

    def write(self, rows):
        if len(self.commits) == self.fails_at:
            raise StorageError("the disk is full")
        self.commits.append(list(rows))

    def tidy(self):
        self.tidied += 1


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def chunk(new=(), refreshed=(), touched=()):
    return Done(list(new), list(refreshed), list(touched), [], 0)


@pytest.fixture
def make():
    opened = []

    def start(target, most_rows=4, most_s=10.0):
        clock, committed = Clock(), []
        commits = Commits(
            target, StageTimes(clock), most_rows, most_s, clock, lambda held: committed.extend(held.new)
        )
        opened.append(commits)
        return commits, clock, committed

    yield start
    for commits in opened:
        commits.close()


def test_rows_are_committed_when_there_are_enough_and_at_the_end(make):
    target = Target()
    commits, _, committed = make(target)
    for number in range(0, 10, 2):
        commits.add(chunk([number, number + 1]))
    commits.finish()
    assert target.commits == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert committed == list(range(10))
    assert target.tidied == 1


def test_rows_are_committed_when_they_have_waited_long_enough(make):
    target = Target()
    commits, clock, _ = make(target, most_rows=100)
    commits.add(chunk([1]))
    clock.now = 11.0
    commits.add(chunk([2]))
    commits.finish()
    assert target.commits == [[1, 2]]


def test_nothing_to_do_writes_nothing(make):
    target = Target()
    commits, _, _ = make(target)
    commits.add(chunk())
    commits.finish()
    assert (target.commits, target.tidied) == ([], 0)


def test_a_commit_that_fails_is_raised_and_nothing_is_written_after_it(make):
    target = Target(fails_at=1)
    commits, _, committed = make(target, most_rows=1)

    def add_all():
        for number in range(5):
            commits.add(chunk([number]))

    with pytest.raises(StorageError, match="full"):
        add_all()
    with pytest.raises(StorageError, match="full"):
        commits.finish()
    assert target.commits == [[0]]
    assert committed == [0]


def test_small_commits_are_merged_now_and_then(make):
    target = Target()
    commits, _, _ = make(target, most_rows=1)
    for number in range(401):
        commits.add(chunk([number]))
    commits.finish()
    assert len(target.commits) == 401
    assert target.tidied == 3


def test_new_rows_are_inserted_known_ones_refreshed_and_equal_ones_touched(make):
    target = Target()
    commits, _, _ = make(target, most_rows=100)
    commits.add(chunk([1], [2], [3]))
    commits.add(chunk([4], [], [5]))
    commits.finish()
    assert target.commits == [[1, 4], ["refreshed 2"], ["touched 3", "touched 5"]]
