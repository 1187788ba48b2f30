"""The board: which process is in trouble and which one hangs, by a clock of the test's own."""

from __future__ import annotations

from trunkline_service.server.processes.board import Board
from trunkline_service.server.processes.keeper import Part


def test_one_that_falls_silent_is_in_trouble_until_it_speaks():
    now = 0.0
    device = Part("device")
    known = Board([device], lambda: now)
    known.ready(device, None)
    known.health(device, None)
    assert known.troubles() == {}
    now = 10.0
    assert known.silent() == []
    now = 10.1
    assert known.silent() == [device]
    assert "said nothing for 10 s" in known.troubles()["device"]
    assert known.silent() == []
    assert known.health(device, None)
    assert known.troubles() == {}


class Watched:
    """A board on which everything is well at first, and its clock."""

    def __init__(self, *parts):
        self.now = 100.0
        self.board = Board(parts, lambda: self.now)
        for pid, part in enumerate(parts, 1):
            self.board.born(part, pid)
            self.board.ready(part, None)
            self.board.health(part, None)

    def seconds(self, count, *speaking):
        """Looks every second, in which these say that they are well; what is said to hang, by its second."""
        hung = {}
        for _ in range(count):
            self.now += 1
            for part in speaking:
                self.board.health(part, None)
            self.board.look()
            if found := self.board.hung():
                hung[self.now - 100] = found
        return hung


DEVICE, DATA = Part("device"), Part("data")


def test_one_that_stays_silent_is_named_with_its_process_and_again_while_it_is_there():
    watched = Watched(DEVICE, DATA)
    assert watched.seconds(50, DATA) == {21: {DEVICE: 1}, 42: {DEVICE: 1}}


def test_one_that_says_it_is_in_trouble_is_waited_for_no_longer_when_it_falls_silent():
    watched = Watched(DEVICE)
    watched.board.health(DEVICE, "a stage hangs")
    assert watched.seconds(21) == {21: {DEVICE: 1}}


def test_one_that_is_starting_anew_may_take_its_time():
    watched = Watched(DEVICE)
    watched.board.ended(DEVICE, "was ended by signal 9", expected=False)
    watched.board.born(DEVICE, 2)
    assert watched.seconds(100) == {}
    watched.board.ready(DEVICE, None)
    assert watched.seconds(21) == {121: {DEVICE: 2}}


def test_while_the_whole_machine_sleeps_nobody_hangs():
    watched = Watched(DEVICE)
    assert watched.seconds(15) == {}
    watched.now += 3600
    watched.board.look()
    assert watched.board.hung() == {}
    # What was silent before counts on.
    assert watched.seconds(6) == {3600 + 21: {DEVICE: 1}}


def test_a_supervisor_that_looks_late_now_and_then_sees_who_hangs():
    watched = Watched(DEVICE)
    for _ in range(5):
        watched.now += 4.5
        watched.board.look()
    assert watched.board.hung() == {DEVICE: 1}
