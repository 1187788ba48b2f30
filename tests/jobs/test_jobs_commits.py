"""Commits: by number, by time, in order; a failure is not lost, and nothing is written after it."""

from __future__ import annotations

import pytest

from trunkline_service.errors import StorageError
from trunkline_service.jobs.commits import Commits
from trunkline_service.jobs.stages import StageTimes


class Target:
    """Notes what it was given."""

    def __init__(self, fails_at=None):
        self.commits, self.tidied, self.fails_at = [], 0, fails_at

    def upsert(self, rows):
        if len(self.commits) == self.fails_at:
            raise StorageError("the disk is full")
        self.commits.append(list(rows))
        return len(self.commits)

    def tidy(self):
        self.tidied += 1


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def make():
    opened = []

    def start(target, most_rows=4, most_s=10.0):
        clock, committed = Clock(), []
        commits = Commits(target, StageTimes(clock), most_rows, most_s, clock, committed.extend)
        opened.append(commits)
        return commits, clock, committed

    yield start
    for commits in opened:
        commits.close()


def test_rows_are_committed_when_there_are_enough_and_at_the_end(make):
    target = Target()
    commits, _, committed = make(target)
    for number in range(0, 10, 2):
        commits.add([number, number + 1])
    commits.finish()
    assert target.commits == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert committed == list(range(10))
    assert target.tidied == 1


def test_rows_are_committed_when_they_have_waited_long_enough(make):
    target = Target()
    commits, clock, _ = make(target, most_rows=100)
    commits.add([1])
    clock.now = 11.0
    commits.add([2])
    commits.finish()
    assert target.commits == [[1, 2]]


def test_nothing_to_do_writes_nothing(make):
    target = Target()
    commits, _, _ = make(target)
    commits.add([])
    commits.finish()
    assert (target.commits, target.tidied) == ([], 0)


def test_a_commit_that_fails_is_raised_and_nothing_is_written_after_it(make):
    target = Target(fails_at=1)
    commits, _, committed = make(target, most_rows=1)

    def add_all():
        for number in range(5):
            commits.add([number])

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
        commits.add([number])
    commits.finish()
    assert len(target.commits) == 401
    assert target.tidied == 3
