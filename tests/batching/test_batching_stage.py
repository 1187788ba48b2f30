"""A stage: who works on a slot, closing and failing."""

from __future__ import annotations

import threading
import time

import pytest
from tests.batching.stages import PATIENCE_S, Owner, Work, close, stage_of

from trunkline_service.errors import Cancelled, InternalError, Unavailable


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
