"""The order of waiting slots: laws of the pure queue, by property."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.batching.admission import Admission
from trunkline_service.batching.buckets import batch_size
from trunkline_service.batching.queue import LaneQueue
from trunkline_service.batching.request import Request, Slot
from trunkline_service.errors import InvalidArgument, Overloaded
from trunkline_service.images.inputs import EncodedImage
from trunkline_service.settings import QueueLimits


def slot(lane="interactive", deadline=None, index=0):
    request = Request(SimpleNamespace(card=SimpleNamespace(dim=4)), index + 1, lane, deadline)
    return Slot(request, index, EncodedImage(b"x"), 1)


@given(st.lists(st.tuples(st.sampled_from(["interactive", "bulk"]), st.integers(0, 3)), max_size=40))
def test_nothing_is_lost_and_each_lane_keeps_its_order(puts):
    queue = LaneQueue(aging_s=5)
    slots = [slot(lane) for lane, _ in puts]
    now = 0.0
    for entry, (_, pause) in zip(slots, puts, strict=True):
        now += pause
        queue.put(entry, now)
    out = []
    while len(queue):
        out += queue.take(3, now).slots
    assert {id(entry) for entry in out} == {id(entry) for entry in slots}
    for lane in ("interactive", "bulk"):
        assert [id(e) for e in out if e.lane == lane] == [id(e) for e in slots if e.lane == lane]


def test_interactive_goes_first_until_bulk_has_aged():
    queue = LaneQueue(aging_s=2)
    bulk, interactive = slot("bulk"), slot("interactive")
    queue.put(bulk, 0.0)
    queue.put(interactive, 0.0)
    assert queue.take(1, 1.0).slots == [interactive]
    for _ in range(9):
        queue.put(slot("interactive"), 1.0)
    lanes = [queue.take(1, 2.0).slots[0].lane for _ in range(9)]
    assert lanes.count("bulk") == 1


def test_a_standing_bulk_backlog_does_not_stand_before_interactive_callers():
    queue = LaneQueue(aging_s=2)
    for _ in range(500):
        queue.put(slot("bulk"), 0.0)
    for _ in range(20):
        queue.put(slot("interactive"), 100.0)
    taken = [entry.lane for _ in range(3) for entry in queue.take(8, 100.0).slots]
    assert taken.count("interactive") >= 20
    # Nor is bulk work stopped while interactive work never ends.
    for _ in range(200):
        queue.put(slot("interactive"), 101.0)
    assert [entry.lane for entry in queue.take(90, 102.0).slots].count("bulk") == 10


def test_the_dead_are_dropped_and_cost_no_place_in_the_batch():
    queue = LaneQueue()
    expired, cancelled, alive = slot(deadline=1.0), slot(), slot()
    cancelled.request.cancel()
    for entry in (expired, cancelled, alive):
        queue.put(entry, 0.0)
    taken = queue.take(1, 1.0)
    assert taken.slots == [alive]
    assert [(entry, error.reason) for entry, error in taken.dropped] == [
        (expired, "deadline_expired"),
        (cancelled, "cancelled"),
    ]


@given(st.integers(1, 300), st.integers(1, 70))
def test_batches_are_always_a_warmed_size_and_never_more_than_waits(waiting, most):
    buckets = QueueLimits(max_batch=most).buckets
    size = batch_size(waiting, buckets)
    assert size in buckets
    assert size <= waiting
    assert buckets[-1] == most
    assert list(buckets) == sorted(set(buckets))


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 2000)), max_size=30))
def test_admission_never_exceeds_its_bounds_and_returns_to_zero(requests):
    admission = Admission(QueueLimits(max_images=32, max_bytes=4000))
    admitted = []
    for images, size in requests:
        with contextlib.suppress(Overloaded):
            admission.admit(images, size)
            admitted.append((images, size))
        assert admission.images <= 32
        assert admission.bytes <= 4000
    for images, size in admitted:
        admission.release(images, size)
    assert (admission.images, admission.bytes) == (0, 0)


def test_a_refusal_says_when_to_come_again_and_counts_nothing():
    admission = Admission(QueueLimits(max_images=4))
    admission.admit(3, 10)
    with pytest.raises(Overloaded) as caught:
        admission.admit(2, 10)
    assert caught.value.retry_after_s > 0
    assert (admission.images, admission.bytes) == (3, 10)


def test_bulk_work_leaves_room_for_interactive_callers():
    admission = Admission(QueueLimits(max_images=100, max_bytes=1000))
    admission.admit(75, 10, "bulk")
    with pytest.raises(Overloaded):
        admission.admit(1, 1, "bulk")
    admission.admit(25, 10, "interactive")


def test_what_fits_into_no_queue_is_the_callers_fault():
    with pytest.raises(InvalidArgument, match="fewer images per call"):
        Admission(QueueLimits(max_images=4)).admit(5, 1)


def test_a_slot_is_settled_once():
    entry = slot()
    entry.settle(None)
    with pytest.raises(RuntimeError, match="twice"):
        entry.settle(None)
