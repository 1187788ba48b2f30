"""What the supervisor and its children tell each other."""

from __future__ import annotations

import dataclasses
import logging
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.server.listening import Address, Security, TlsFiles
from trunkline_service.server.processes.control import Control
from trunkline_service.server.processes.messages import (
    AskMetrics,
    Ending,
    Failed,
    Health,
    MetricsText,
    Parts,
    Ready,
    Start,
    Stop,
    dumps,
    loads,
)
from trunkline_service.server.started import Started
from trunkline_service.settings import ImageLimits, IndexSettings, PlanSettings, QueueLimits, Settings

texts = st.text()
numbers = st.integers(0, 2**53)
seconds = st.floats(0, 1e6)


def settings():
    """Every setting, each of its own value."""
    made = {
        "decode": st.sampled_from(["exact", "fast"]),
        "image": st.builds(ImageLimits, numbers, numbers),
        "queue": st.builds(QueueLimits, numbers, numbers, numbers),
        "index": st.builds(
            IndexSettings, st.sampled_from(["auto", "never"]), numbers, seconds, numbers, texts
        ),
        "plans": st.dictionaries(texts, st.builds(PlanSettings, numbers, numbers, numbers), max_size=2),
    }
    by_type = {"str": texts, "int": numbers, "float": seconds}
    plain = {
        field.name: by_type[field.type] for field in dataclasses.fields(Settings) if field.name not in made
    }
    return st.builds(Settings, **plain, **made)


paths = texts.filter(bool).map(Path)
starts = st.builds(
    Start,
    part=texts,
    role=texts,
    number=numbers,
    settings=settings(),
    address=st.builds(Address, texts, numbers),
    security=st.builds(Security, st.none() | st.builds(TlsFiles, paths, paths), st.booleans()),
    folder=paths,
    quota_fd=numbers,
    quota_row=st.none() | numbers,
    log_level=st.just(logging.INFO),
)
messages = st.one_of(
    starts,
    st.builds(Parts, st.dictionaries(texts, texts)),
    st.just(AskMetrics()),
    st.just(Ending()),
    st.builds(Stop, seconds),
    st.builds(Ready, st.none() | st.builds(Started, st.dictionaries(texts, st.booleans()), texts)),
    st.builds(Failed, texts, texts),
    st.builds(Health, st.none() | texts),
    st.builds(MetricsText, texts),
)


@given(messages)
def test_a_message_is_one_line_and_comes_back_as_it_was(message):
    line = dumps(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert loads(line) == message


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"kind":"Nonsense"}', b'{"kind":"Stop"}', b"\xff\n"])
def test_what_is_no_message_is_refused(line):
    with pytest.raises(ValueError, match=r".+"):
        loads(line)


@pytest.fixture
def ends():
    one, other = (Control(end) for end in socket.socketpair())
    yield one, other
    one.close()
    other.close()


def test_messages_come_in_order_and_then_the_end(ends):
    one, other = ends
    sent = [Health(None), Stop(1.5), MetricsText("x" * 100_000)]
    for message in sent:
        assert one.send(message)
    one.end()
    assert [other.receive() for _ in range(4)] == [*sent, None]


def test_to_one_who_is_gone_nothing_is_sent(ends):
    one, other = ends
    other.end()
    assert not one.send(Ending())
    assert one.receive() is None


def test_half_a_message_is_none():
    raw, end = socket.socketpair()
    control = Control(end)
    raw.sendall(dumps(Stop(1.0))[:-1])
    raw.close()
    assert control.receive() is None
    control.close()
