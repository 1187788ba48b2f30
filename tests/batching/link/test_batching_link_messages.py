"""What is said over a link: every message comes out as it went in, and garbage is refused."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service import errors
from trunkline_service.batching.link.messages import (
    LARGEST,
    Answer,
    Ask,
    Cancel,
    Claim,
    Done,
    Failed,
    Found,
    Hello,
    Lead,
    Resign,
    Run,
    pack_error,
    unpack,
    unpack_error,
)
from trunkline_service.errors import InternalError, Overloaded, TrunklineError

IDS = st.integers(0, 2**64 - 1)
DEADLINES = st.none() | st.floats(allow_nan=False)
LANES = st.sampled_from(["interactive", "bulk"])
SECONDS = st.floats(0, 1e6, width=32)
PLAIN = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=4)
MESSAGES = st.one_of(
    st.builds(Hello, IDS),
    st.builds(Run, IDS, st.integers(0, 2**32 - 1), IDS, DEADLINES, LANES),
    st.builds(Done, IDS, SECONDS, SECONDS, st.integers(1, 2**32 - 1)),
    *(st.builds(kind, IDS) for kind in (Cancel, Lead, Resign)),
    st.builds(Claim, IDS, DEADLINES, LANES, st.binary(min_size=32, max_size=32)),
    st.builds(Found, IDS, st.binary(max_size=64)),
    *(st.builds(kind, IDS, PLAIN) for kind in (Ask, Answer)),
)


@given(MESSAGES)
def test_every_message_comes_out_as_it_went_in(message):
    packet = message.pack()
    assert unpack(packet) == message
    assert len(packet) <= LARGEST


@given(IDS, st.text())
def test_errors_come_out_as_they_went_in(number, text):
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, TrunklineError) and kind not in (InternalError, Overloaded)
    ]
    assert len(kinds) > 20
    for error in (*(kind(text) for kind in kinds), Overloaded(text, 0.25), InternalError()):
        failed = unpack(Failed(number, error).pack())
        assert (failed.id, type(failed.error)) == (number, type(error))
        assert failed.error.message == error.message
        assert getattr(failed.error, "retry_after_s", None) == getattr(error, "retry_after_s", None)


@pytest.mark.parametrize("name", ["ValueError", "annotations", "__builtins__", "NoSuchError", ""])
def test_an_error_of_another_kind_is_an_internal_one(name):
    assert isinstance(unpack_error({"error": name, "message": "secret"}), InternalError)
    assert pack_error(InternalError())["error"] == "InternalError"


@given(st.binary(max_size=80))
def test_garbage_is_a_message_or_a_value_error(packet):
    try:
        message = unpack(packet)
    except ValueError:
        return
    assert packet[0] == message.KIND


@given(MESSAGES, st.data())
def test_a_message_cut_short_is_no_other_message(message, data):
    packet = message.pack()
    cut = packet[: data.draw(st.integers(0, len(packet) - 1))]
    try:
        assert unpack(cut) != message
    except ValueError:
        return


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, json.dumps({"error": "Overloaded", "message": "x"}).encode()]
)
def test_a_body_that_is_no_error_is_refused(body):
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        unpack(bytes([Failed.KIND]) + bytes(8) + body)


def test_a_vector_goes_as_little_endian_floats():
    vector = np.array([1.5, -2], np.float32)
    found = unpack(Found(7, vector.astype("<f4").tobytes()).pack())
    assert np.frombuffer(found.vector, "<f4").tolist() == [1.5, -2]
