"""A device in a process of its own, killed for real."""

from __future__ import annotations

import os
import threading

import pytest
from tests.batching.link.conftest import PATIENCE_S, Front, tensor, until

from trunkline_service.batching.engine import Caller
from trunkline_service.batching.link.quota import QuotaTable
from trunkline_service.errors import Unavailable


@pytest.fixture
def front(folder):
    """``front(**options)`` makes one that links to ``folder / "device"``."""
    made, quota = [], QuotaTable.create(4)

    def make(**options):
        made.append(Front(folder / "device", quota, row=len(made), **options))
        return made[-1]

    yield make
    for each in made:
        each.engine.close(10)
    os.close(quota.fd)


def test_vectors_come_from_the_other_process(device_process, front):
    device_process()
    fronts = [front(), front(cache=True)]
    for each in (*fronts, *fronts):
        embedded = each.engine.embed("tiny", [tensor(value) for value in range(20)], Caller())
        assert embedded.vectors[:, 0].tolist() == list(range(20))
        each.assert_idle()


def test_nobody_there_is_unavailable(front):
    with pytest.raises(Unavailable, match="away"):
        front().engine.embed("tiny", [tensor(1)], Caller())


@pytest.mark.parametrize("cache", [False, True])
def test_a_device_killed_in_its_run_ends_every_call_and_another_takes_over(
    device_process, front, calls, cache
):
    hanging = device_process("hang")
    fronts = [front(cache=cache), front(cache=cache)]
    arenas = [each.link.connection().arena for each in fronts]
    for number in range(8):
        # Some alone, some together; with a cache, some behind each other.
        images = [tensor((number + offset) % 6) for offset in range(1 + number % 3)]
        calls.start(fronts[number % 2].engine.embed, "tiny", images, Caller())
    hanging.wait_run()
    until(lambda: sum(each.admission.images for each in fronts) == sum(1 + number % 3 for number in range(8)))
    hanging.kill()
    assert [type(outcome) for outcome in calls.join()] == [Unavailable] * 8
    for each, arena in zip(fronts, arenas, strict=True):
        each.assert_idle(arena)
        with pytest.raises(Unavailable):
            each.engine.embed("tiny", [tensor(1)], Caller())
    device_process()
    for each in fronts:
        assert each.engine.embed("tiny", [tensor(5)] * 3, Caller()).vectors[:, 0].tolist() == [5, 5, 5]
        each.assert_idle()


@pytest.mark.parametrize("cache", [False, True])
def test_a_device_killed_under_load_answers_or_refuses_every_call(device_process, front, calls, cache):
    first = device_process()
    each, served, stop = front(cache=cache), threading.Semaphore(0), threading.Event()

    def call(number):
        refused = 0
        while not stop.is_set():
            values = [(number * 3 + offset + refused) % 40 for offset in range(1 + number % 4)]
            try:
                embedded = each.engine.embed("tiny", [tensor(value) for value in values], Caller())
            except Unavailable:
                refused += 1
                continue
            for index, value in enumerate(values):
                if index in embedded.errors:
                    assert isinstance(embedded.errors[index], Unavailable)
                else:
                    assert embedded.vectors[index, 0] == value
            served.release()
        return refused

    def wait_served(count):
        for _ in range(count):
            assert served.acquire(timeout=PATIENCE_S)

    for number in range(6):
        calls.start(call, number)
    for device in (first, device_process):
        wait_served(60)
        if device is first:
            first.kill()
            while served.acquire(blocking=False):
                continue
            device_process()
    stop.set()
    assert all(isinstance(refused, int) for refused in calls.join()), calls.outcomes
    each.assert_idle()
