"""The places of a stage under many threads: never exceeded, all of them used, nobody left asleep."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batching.stages import PATIENCE_S, Owner, Work, close, stage_of

from trunkline_service.errors import Cancelled


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
