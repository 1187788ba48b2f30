"""What is tried again, how long it waits, and when it gives up. No test sleeps."""

from __future__ import annotations

import math
import socket

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trunkline
from trunkline._wire.retry import Attempts, RetryPolicy
from trunkline._wire.status import Refusal
from trunkline.exceptions import Overloaded

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
BUSY = Refusal(Overloaded, "busy", "overloaded", EXHAUSTED, retryable=True)


def pushback(milliseconds: object) -> tuple[tuple[str, str], ...]:
    return (("grpc-retry-pushback-ms", str(milliseconds)), ("trunkline-reason", "overloaded"))


@given(
    attempt=st.integers(1, 2000),
    asked=st.floats(0, 100),
    chance=st.floats(0, 1, exclude_max=True),
    base=st.floats(0.001, 10),
    cap=st.floats(0.001, 100),
)
def test_a_pause_lies_between_what_was_asked_and_the_cap_above_it(attempt, asked, chance, base, cap):
    policy = RetryPolicy(base_s=base, cap_s=cap)
    pause = policy.pause(attempt, asked, lambda: chance)
    assert asked <= pause <= asked + cap
    assert policy.pause(attempt, asked, lambda: 0.0) == asked


def test_pauses_double_until_the_cap():
    policy = RetryPolicy(base_s=0.1, cap_s=1.0)
    pauses = [policy.pause(attempt, 0.0, lambda: 1.0) for attempt in range(1, 7)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


@given(retries=st.integers(0, 20), timeout=st.floats(0.01, 100))
def test_attempts_end_and_never_pause_past_the_deadline(retries, timeout):
    now = 0.0
    attempts = Attempts(RetryPolicy(retries), timeout, lambda: now, lambda: 0.5)
    cause = RuntimeError()
    for _ in range(retries):
        left = attempts.remaining()
        assert left is not None
        assert left > 0
        try:
            now += attempts.after(BUSY, cause)
        except Overloaded:
            # Out of time before it was out of attempts: not even the longest pause can explain more.
            assert now + RetryPolicy().cap_s >= timeout
            return
        assert now < timeout
    with pytest.raises(Overloaded) as caught:
        attempts.after(BUSY, cause)
    assert caught.value.__cause__ is cause


def test_no_deadline_is_no_deadline():
    attempts = Attempts(RetryPolicy(), math.inf, lambda: 0.0, lambda: 0.0)
    assert attempts.remaining() is None
    assert attempts.after(BUSY, RuntimeError()) == 0.0


@pytest.mark.parametrize(
    ("code", "details", "trailing"),
    [
        (UNAVAILABLE, "draining", (("trunkline-reason", "unavailable"),)),
        (UNAVAILABLE, "Socket closed", ()),
        (EXHAUSTED, "queues are full", pushback(0)),
        (EXHAUSTED, "Concurrent RPC limit exceeded!", ()),
    ],
)
@pytest.mark.parametrize("method", ["embed", "add"])
def test_a_refusal_by_load_is_tried_again(
    fake, call, fake_time, refusal, expected, method, code, details, trailing
):
    fake.refusals.extend([refusal(code, details, trailing)] * 2)
    arguments = [b"a"] if method == "embed" else ["flowers", b"a"]
    result = call(fake, method, *arguments, client={"_rim": fake_time.rim})
    assert result.ok.all()
    assert len(fake.requests) == 3
    assert fake_time.pauses == pytest.approx([0.05, 0.1])
    if method == "embed":
        np.testing.assert_array_equal(result.vectors, [expected(b"a")])


@pytest.mark.parametrize(
    ("code", "trailing"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, ()),
        (grpc.StatusCode.NOT_FOUND, ()),
        (grpc.StatusCode.FAILED_PRECONDITION, ()),
        (grpc.StatusCode.INTERNAL, ()),
        (grpc.StatusCode.UNKNOWN, ()),
        (grpc.StatusCode.DATA_LOSS, ()),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ()),
        (grpc.StatusCode.UNAUTHENTICATED, ()),
        (grpc.StatusCode.CANCELLED, ()),
        # No word of load, so it may be a quota that more attempts only use up.
        (EXHAUSTED, ()),
        (EXHAUSTED, pushback(-1)),
        (EXHAUSTED, pushback("soon")),
        (UNAVAILABLE, pushback(-1)),
        # A pushback makes no other status safe to repeat.
        (grpc.StatusCode.INVALID_ARGUMENT, pushback(5)),
    ],
)
def test_nothing_else_is_tried_again(fake, call, fake_time, refusal, code, trailing):
    fake.refusals.append(refusal(code, "no", trailing))
    with pytest.raises(trunkline.TrunklineError) as caught:
        call(fake, "embed", b"a", client={"_rim": fake_time.rim})
    assert caught.value.code is code
    assert len(fake.requests) == 1
    assert fake_time.pauses == []


def test_the_pause_is_no_shorter_than_the_server_asks(fake, call, fake_time, refusal):
    fake.refusals.append(refusal(EXHAUSTED, "full", pushback(1500)))
    call(fake, "embed", b"a", client={"_rim": fake_time.rim})
    assert fake_time.pauses == pytest.approx([1.5 + 0.05])


def test_retries_are_bounded_and_counted(fake, call, fake_time, refusal):
    fake.refusals.extend([refusal(EXHAUSTED, "full", pushback(10))] * 9)
    with pytest.raises(trunkline.Overloaded, match="after 3 attempts") as caught:
        call(fake, "embed", b"a", client={"_rim": fake_time.rim, "retries": 2})
    assert len(fake.requests) == 3
    assert caught.value.reason == "overloaded"


def test_no_retries_means_one_attempt(fake, call, refusal):
    fake.refusals.append(refusal(UNAVAILABLE))
    with pytest.raises(trunkline.Unavailable):
        call(fake, "embed", b"a", client={"retries": 0})
    assert len(fake.requests) == 1


def test_a_pause_past_the_deadline_is_not_begun(fake, call, fake_time, refusal):
    fake.refusals.append(refusal(EXHAUSTED, "full", pushback(20_000)))
    with pytest.raises(trunkline.Overloaded):
        call(fake, "embed", b"a", timeout=15.0, client={"_rim": fake_time.rim})
    assert fake_time.pauses == []


def test_each_of_many_requests_has_its_own_retries(fake, call, fake_time, refusal, expected):
    fake.refusals.extend([refusal(UNAVAILABLE)] * 4)
    images = [str(i).encode() for i in range(12)]
    options = {"_rim": fake_time.rim, "chunk_images": 2, "max_in_flight": 6}
    result = call(fake, "embed", images, client=options)
    np.testing.assert_array_equal(result.vectors, [expected(image) for image in images])
    assert len(fake.requests) == 6 + 4


def test_nobody_at_the_address_is_a_failed_connection(fake, call, fake_time):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        fake.target = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(trunkline.ConnectionFailed, match="trunkline serve") as caught:
        call(fake, "models", client={"_rim": fake_time.rim})
    assert fake.target in str(caught.value)
    assert isinstance(caught.value, trunkline.Unavailable)
    assert len(fake_time.pauses) == 4


def test_waiting_for_a_server_outlasts_the_usual_retries(fake, call, fake_time, refusal):
    fake.refuse_infos.extend([refusal(UNAVAILABLE, "starting")] * 30)
    info = call(fake, "wait_ready", client={"_rim": fake_time.rim, "retries": 0})
    assert info.device == "cpu"
    assert len(fake_time.pauses) == 30
    assert max(fake_time.pauses) == 0.5


def test_waiting_for_a_server_ends(fake, call, fake_time, refusal):
    fake.refuse_infos.extend([refusal(UNAVAILABLE, "starting")] * 100)
    with pytest.raises(trunkline.Unavailable, match="starting"):
        call(fake, "wait_ready", 3.0, client={"_rim": fake_time.rim})
    assert fake_time.now < 3.0


@pytest.mark.parametrize(
    ("kind", "items", "told"),
    [
        # The server's message names the item, counted from the first of the call.
        (trunkline.InvalidRequest, range(3), False),
        (trunkline.SpaceMismatch, range(3), False),
        (trunkline.InvalidRequest, range(3, 6), True),
        (trunkline.InvalidRequest, range(3, 4), True),
        (trunkline.Internal, range(3), True),
        (trunkline.Internal, range(1), False),
        (trunkline.Internal, None, False),
    ],
)
def test_items_are_told_where_that_helps(kind, items, told):
    attempts = Attempts(RetryPolicy(0), math.inf, lambda: 0.0, lambda: 0.0, items)
    refusal = Refusal(kind, "query 1 holds NaN", "", grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(kind) as caught:
        attempts.after(refusal, RuntimeError())
    assert ("of the input]" in str(caught.value)) is told
    assert caught.value.items == items
