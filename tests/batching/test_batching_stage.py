"""A stage under many threads: places, inline work, nobody left asleep, closing and failing."""

from __future__ import annotations

import os
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.batching.mailbox import Mailbox
from trunkline_service.batching.observer import NullObserver
from trunkline_service.batching.request import Slot
from trunkline_service.batching.stage import Stage
from trunkline_service.errors import Cancelled, InternalError, Unavailable

PATIENCE_S = 60


class Owner:
    """Whose slots they are; remembers how each ended."""

    def __init__(self, lane="interactive", verdict=None):
        self.lane, self._verdict, self.ended = lane, verdict, []
        self._changed = threading.Condition()

    def verdict(self, now):
        return self._verdict

    def settled(self, slot, error):
        with self._changed:
            self.ended.append((slot, error))
            self._changed.notify_all()

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.ended) >= count, PATIENCE_S)

    def slot(self):
        return Slot(self, 0, None, 1)


class Work:
    """Counts who works at once, and where."""

    def __init__(self):
        self.at_work = self.most_at_work = 0
        self.idents = []
        self._lock = threading.Lock()

    def __call__(self, slots):
        with self._lock:
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            self.idents.append(threading.get_ident())
        # Lets others run, so that they meet here if they can.
        os.sched_yield()
        for slot in slots:
            slot.settle(None)
        with self._lock:
            self.at_work -= 1


def stage_of(work, threads=2, most=1):
    return Stage("work", threads, lambda waiting: min(waiting, most), work, time.monotonic, NullObserver())


def close(stage):
    assert stage.close(time.monotonic() + PATIENCE_S) == 0


def in_threads(*functions):
    """Runs functions at once, each in a thread, and waits for them."""
    together = threading.Barrier(len(functions))
    failures = []

    def run(function):
        together.wait()
        try:
            function()
        except Exception as exc:  # noqa: BLE001 - told below
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert not failures


STEPS = st.lists(st.integers(0, 5), min_size=1, max_size=25)


@given(
    callers=st.lists(STEPS, min_size=1, max_size=4),
    places=st.integers(1, 3),
    most=st.integers(1, 4),
    dead=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_every_slot_ends_once_and_places_are_never_exceeded(callers, places, most, dead):
    work = Work()
    stage = stage_of(work, places, most)
    alive, gone = Owner(), Owner("bulk", Cancelled("gone"))

    def call(steps):
        for step in steps:
            owner = gone if dead and step % 2 else alive
            if step == 0:
                stage.handle(owner.slot())
            else:
                stage.put([owner.slot() for _ in range(step)])

    in_threads(*(lambda steps=steps: call(steps) for steps in callers))
    # Before it is closed, which would wake everybody.
    total = sum(max(1, step) for steps in callers for step in steps)
    lost = sum(step for steps in callers for step in steps if step % 2) if dead else 0
    alive.wait_for(total - lost)
    gone.wait_for(lost)
    close(stage)
    assert len(alive.ended) + len(gone.ended) == total
    assert {error for _, error in alive.ended} <= {None}
    assert all(isinstance(error, Cancelled) for _, error in gone.ended)
    assert work.most_at_work <= places
    assert len(stage.mailbox) == 0


class Meeting:
    """Work that ends only when two are at it at once."""

    def __init__(self):
        self.barrier = threading.Barrier(2)

    def __call__(self, slots):
        self.barrier.wait(PATIENCE_S)
        for slot in slots:
            slot.settle(None)


def put_together(stage, owner):
    stage.put([owner.slot(), owner.slot()])


def put_one_after_the_other(stage, owner):
    stage.put([owner.slot()])
    stage.put([owner.slot()])


def bring_one_and_put_one(stage, owner):
    in_threads(lambda: stage.handle(owner.slot()), lambda: stage.put([owner.slot()]))


def bring_two(stage, owner):
    in_threads(lambda: stage.handle(owner.slot()), lambda: stage.handle(owner.slot()))


@pytest.mark.parametrize("bring", [put_together, put_one_after_the_other, bring_one_and_put_one, bring_two])
def test_two_places_are_two_places_however_the_work_comes(bring):
    stage = stage_of(Meeting())
    for _ in range(50):
        owner = Owner()
        bring(stage, owner)
        owner.wait_for(2)
        assert [error for _, error in owner.ended] == [None, None]
    close(stage)


def test_a_place_that_is_free_beside_one_that_is_taken_is_used():
    meeting, inside, owner = Meeting(), threading.Semaphore(0), Owner()

    def work(slots):
        inside.release()
        meeting(slots)

    stage = stage_of(work)
    for bring in (stage.handle, lambda slot: stage.put([slot])):
        first = threading.Thread(target=bring, args=(owner.slot(),))
        first.start()
        assert inside.acquire(timeout=PATIENCE_S)
        stage.put([owner.slot()])
        assert inside.acquire(timeout=PATIENCE_S)
        first.join()
    owner.wait_for(4)
    close(stage)


class WouldBlock(Exception):
    """Instead of waiting."""


@pytest.fixture
def mailbox(monkeypatch):
    """With one place; who would wait is told so."""
    made = Mailbox(time.monotonic, 1)

    def wait():
        raise WouldBlock

    monkeypatch.setattr(made._condition, "wait", wait)
    return made


def test_nobody_enters_before_what_waits(mailbox):
    slot = Owner().slot()
    mailbox.put([slot])
    assert not mailbox.enter()
    assert mailbox.take(lambda waiting: waiting).slots == [slot]
    mailbox.leave()
    assert mailbox.enter()


def test_nobody_takes_more_places_than_there_are(mailbox):
    assert mailbox.enter()
    assert not mailbox.enter()
    mailbox.put([Owner().slot(), Owner().slot()])
    with pytest.raises(WouldBlock):
        mailbox.take(lambda _waiting: 1)
    mailbox.leave()
    assert len(mailbox.take(lambda _waiting: 1).slots) == 1
    with pytest.raises(WouldBlock):
        mailbox.take(lambda _waiting: 1)
    mailbox.leave()
    mailbox.close()
    assert len(mailbox.take(lambda _waiting: 1).slots) == 1
    mailbox.leave()
    assert mailbox.take(lambda _waiting: 1) is None
    with pytest.raises(Unavailable):
        mailbox.enter()
    assert mailbox.wait_idle(0)


def test_who_leaves_wakes_one_for_each_place_that_becomes_free():
    inside, let_go, meeting = threading.Semaphore(0), threading.Event(), Meeting()
    inline, owner = Owner(), Owner()

    def work(slots):
        if slots[0].request is inline:
            inside.release()
            let_go.wait(PATIENCE_S)
            slots[0].settle(None)
        else:
            meeting(slots)

    stage = stage_of(work)
    callers = [threading.Thread(target=stage.handle, args=(inline.slot(),)) for _ in range(2)]
    for caller in callers:
        caller.start()
        assert inside.acquire(timeout=PATIENCE_S)
    # Both places are taken by callers, so both threads of the stage sleep on.
    stage.put([owner.slot(), owner.slot()])
    assert not owner.ended
    let_go.set()
    owner.wait_for(2)
    for caller in callers:
        caller.join()
    close(stage)


def test_a_slot_that_finds_nothing_waiting_is_worked_on_by_who_brings_it():
    work, owner = Work(), Owner()
    stage = stage_of(work)
    stage.handle(owner.slot())
    assert [error for _, error in owner.ended] == [None]
    assert work.idents == [threading.get_ident()]
    close(stage)


def test_a_slot_that_finds_others_waiting_or_every_place_taken_stands_behind_them():
    inside, let_go, order = threading.Event(), threading.Event(), []

    def work(slots):
        order.append((slots[0].request, threading.get_ident()))
        inside.set()
        let_go.wait(PATIENCE_S)
        slots[0].settle(None)

    stage = stage_of(work, threads=1)
    first, second, third = Owner(), Owner(), Owner()
    stage.put([first.slot()])
    assert inside.wait(PATIENCE_S)
    stage.handle(second.slot())
    stage.handle(third.slot())
    assert len(stage.mailbox) == 2
    let_go.set()
    third.wait_for(1)
    close(stage)
    assert [owner for owner, _ in order] == [first, second, third]
    assert threading.get_ident() not in {ident for _, ident in order}


def test_a_dead_slot_is_dropped_by_who_brings_it():
    work, owner = Work(), Owner(verdict=Cancelled("gone"))
    stage = stage_of(work)
    stage.handle(owner.slot())
    assert isinstance(owner.ended[0][1], Cancelled)
    assert not work.idents
    close(stage)


def test_closing_waits_for_callers_that_work_themselves():
    inside, let_go, ended = threading.Event(), threading.Event(), []

    def work(slots):
        inside.set()
        let_go.wait(PATIENCE_S)
        ended.append("work")
        slots[0].settle(None)

    stage, owner = stage_of(work), Owner()
    caller = threading.Thread(target=stage.handle, args=(owner.slot(),))
    caller.start()
    assert inside.wait(PATIENCE_S)

    def shut():
        close(stage)
        ended.append("closed")

    wait_idle, waits = stage.mailbox.wait_idle, threading.Event()
    stage.mailbox.wait_idle = lambda timeout_s: (waits.set(), wait_idle(timeout_s))[1]
    closer = threading.Thread(target=shut)
    closer.start()
    refused = Owner()
    # Its own threads have ended by then.
    assert waits.wait(PATIENCE_S)
    with pytest.raises(Unavailable):
        stage.handle(refused.slot())
    let_go.set()
    closer.join()
    caller.join()
    assert ended == ["work", "closed"]
    assert not refused.ended


def test_what_waits_when_time_is_up_is_told():
    inside, let_go = threading.Event(), threading.Event()

    def work(slots):
        inside.set()
        let_go.wait(PATIENCE_S)
        slots[0].settle(None)

    stage, busy, waiting = stage_of(work, threads=1), Owner(), Owner()
    stage.put([busy.slot()])
    assert inside.wait(PATIENCE_S)
    stage.put([waiting.slot() for _ in range(3)])
    assert stage.close(time.monotonic()) == 3
    assert [type(error) for _, error in waiting.ended] == [Unavailable] * 3
    let_go.set()
    busy.wait_for(1)
    close(stage)


def test_work_that_fails_fails_its_own_slots_alone():
    def work(slots):
        slots[0].settle(None)
        raise RuntimeError("the device is gone")

    stage, owner = stage_of(work, threads=1, most=3), Owner()
    stage.put([owner.slot() for _ in range(3)])
    owner.wait_for(3)
    kinds = [error if error is None else type(error) for _, error in owner.ended]
    assert kinds == [None, InternalError, InternalError]
    close(stage)


def test_work_that_fails_every_time_is_trouble_until_it_does_not():
    broken = [True]

    def work(slots):
        if broken[0]:
            raise RuntimeError("the device is gone")
        slots[0].settle(None)

    stage, owner = stage_of(work, threads=1), Owner()
    for failures in range(1, 4):
        assert stage.trouble(1e9) is None
        stage.handle(owner.slot())
        assert isinstance(owner.ended[-1][1], InternalError), failures
    assert "3 times in a row" in (stage.trouble(1e9) or "")
    broken[0] = False
    stage.handle(owner.slot())
    assert stage.trouble(1e9) is None
    close(stage)


def test_a_caller_that_is_interrupted_leaves_nothing_behind():
    interrupted = [True]

    def work(slots):
        if interrupted.pop():
            # Ctrl-C in a notebook.
            raise KeyboardInterrupt
        slots[0].settle(None)

    stage, owner = stage_of(work, threads=1), Owner()
    with pytest.raises(KeyboardInterrupt):
        stage.handle(owner.slot())
    assert isinstance(owner.ended[0][1], Cancelled)
    assert stage.trouble(0.0) is None
    interrupted.append(False)
    # Its place is free again.
    stage.handle(owner.slot())
    assert owner.ended[1][1] is None
    close(stage)
