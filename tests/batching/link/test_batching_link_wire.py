"""The socket and what comes over it: strangers, peers that do not read, ends in the middle of everything."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from tests.batching.link.conftest import PATIENCE_S, tensor, until

from trunkline_service.batching.engine import Caller
from trunkline_service.batching.link import wire as wire_module
from trunkline_service.batching.link.arena import Arena
from trunkline_service.batching.link.connection import Claims, Connection
from trunkline_service.batching.link.messages import (
    LARGEST,
    Answer,
    Ask,
    Cancel,
    Done,
    Failed,
    Found,
    Hello,
    Lead,
    Resign,
    Run,
    unpack,
)
from trunkline_service.batching.link.wire import Wire
from trunkline_service.errors import Unavailable


class Stranger:
    """Somebody who found the socket."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(os.fspath(address))

    def send(self, *packets):
        for packet in packets:
            self.socket.send(packet)

    def introduce(self):
        """Begins as a link should."""
        arena = Arena(4096)
        socket.send_fds(self.socket, [Hello(4096).pack()], [arena.fd])
        arena.close_fd()

    def ask(self, question):
        self.send(Ask(1, question).pack())
        return unpack(self.socket.recv(LARGEST)).answer

    def assert_shown_out(self):
        """The link is ended from the other side."""
        try:
            while self.socket.recv(LARGEST):
                continue
        except ConnectionResetError:
            return

    def close(self):
        self.socket.close()


@pytest.fixture
def stranger(rig):
    """``stranger()`` connects one to the device."""
    made = []

    def connect():
        made.append(Stranger(rig.address))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def fds():
    return len(os.listdir("/proc/self/fd"))


def assert_serves(front):
    assert front.engine.embed("tiny", [tensor(3)], Caller()).vectors[0, 0] == 3
    front.assert_idle()


@pytest.mark.parametrize("packet", [b"garbage", b"\x00", Hello(4096).pack(), Cancel(1).pack(), b"[" * 9000])
def test_a_link_that_begins_otherwise_is_ended(rig, stranger, packet):
    front, unwanted = rig.front(), stranger()
    assert_serves(front)
    unwanted.send(packet)
    unwanted.assert_shown_out()
    assert_serves(front)


@pytest.mark.parametrize("first", [b"garbage", Cancel(1).pack(), Hello(1 << 62).pack(), Hello(8192).pack()])
def test_a_descriptor_that_comes_with_nonsense_is_closed(rig, stranger, first):
    front = rig.front()
    assert_serves(front)
    until(lambda: len(rig.host._peers) == 1)
    before = fds()
    unwanted = stranger()
    arena = Arena(4096)
    socket.send_fds(unwanted.socket, [first], [arena.fd])
    arena.close_fd()
    unwanted.assert_shown_out()
    unwanted.close()
    until(lambda: len(rig.host._peers) == 1)
    del arena
    assert fds() == before
    assert_serves(front)


def test_memory_that_may_shrink_is_not_mapped(rig, stranger):
    unwanted = stranger()
    with open(os.memfd_create("shrinking"), "w+b") as file:
        file.truncate(4096)
        socket.send_fds(unwanted.socket, [Hello(4096).pack()], [file.fileno()])
    unwanted.assert_shown_out()
    assert_serves(rig.front())


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff" * 40,
        Run(1, 7, 0, None, "bulk").pack(),
        Run(1, 0, 1 << 40, None, "bulk").pack(),
        Run(1, 0, 4000, None, "bulk").pack(),
        Done(1, 0, 0, 1).pack(),
        Lead(1).pack(),
        Found(1, b"").pack(),
        Hello(1).pack(),
        bytes([Ask.KIND]) + bytes(8) + b"[" * 100_000,
    ],
)
def test_a_link_that_goes_astray_is_ended_alone(rig, stranger, packet):
    front, unwanted = rig.front(), stranger()
    assert_serves(front)
    unwanted.introduce()
    assert unwanted.ask({"open": "tiny"})["model"] == 0
    unwanted.send(packet)
    unwanted.assert_shown_out()
    assert_serves(front)


def test_questions_that_nobody_knows_are_answered_with_an_error(stranger):
    unwanted = stranger()
    unwanted.introduce()
    for question in ({"who": "are you"}, {"open": 7}, [], 5):
        assert unwanted.ask(question)["error"] == "InternalError"
    assert unwanted.ask({"open": "no name!"})["error"] == "InvalidArgument"
    assert unwanted.ask({"loaded": True}) == {"loaded": []}
    # Of slots and claims that there are not.
    unwanted.send(Cancel(9).pack(), Resign(9).pack())
    assert unwanted.ask({"trouble": True}) == {"trouble": None}


@pytest.mark.parametrize("what", ["runs", "questions"])
def test_who_does_not_read_is_shown_out_and_holds_nobody_up(rig, stranger, monkeypatch, what):
    monkeypatch.setattr(wire_module, "_PATIENCE", struct.pack("@ll", 0, 50_000))
    front, unwanted = rig.front(), stranger()
    assert_serves(front)
    unwanted.introduce()
    assert unwanted.ask({"open": "tiny"})["model"] == 0
    packet = Run(1, 0, 0, None, "interactive").pack() if what == "runs" else Ask(1, {"loaded": True}).pack()

    def flood():
        while True:
            try:
                unwanted.send(packet)
            except OSError:
                return

    flooding = threading.Thread(target=flood)
    flooding.start()
    assert_serves(front)
    flooding.join(PATIENCE_S)
    assert not flooding.is_alive()
    until(lambda: len(rig.host._peers) == 1 and not rig.device.queued())
    assert_serves(front)


@pytest.fixture
def ends():
    """The two ends of a link."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield tuple(map(Wire, pair))
    for each in pair:
        each.close()


def test_messages_arrive_one_by_one_and_in_order(ends):
    here, there = ends
    for number in range(100):
        here.send(Cancel(number))
    assert [there.receive() for _ in range(100)] == [Cancel(number) for number in range(100)]
    here.hang_up()
    assert there.receive() is None
    with pytest.raises(Unavailable, match="away"):
        there.send(Cancel(1))


def test_closing_lets_go_of_who_waits_to_send(ends, calls):
    here, _ = ends

    def fill():
        while True:
            here.send(Cancel(1))

    # Nobody reads: whoever comes first waits in the kernel, the others for it.
    for _ in range(3):
        calls.start(fill)
    here.close()
    assert [type(outcome) for outcome in calls.join()] == [Unavailable] * 3
    assert here.receive() is None
    here.close()


def connection_over(wire, claims=None):
    return Connection(wire, 4096, lambda _images, _seconds: None, claims or Claims(), iter(range(1, 1000)))


def test_a_connection_to_nobody_leaves_nothing_open():
    before = fds()
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    there.close()
    with pytest.raises(OSError):  # noqa: PT011 - the kernel's words
        connection_over(Wire(here))
    assert fds() == before


def test_an_end_that_follows_an_answer_at_once_fails_everybody_else(ends):
    told = []
    claims = Claims(all_failed=lambda connection, why: told.append((connection, why)))
    connection = connection_over(ends[0], claims)
    answered, waiting = Future(), Future()
    connection._asked.update({7: answered, 8: waiting})
    # Its asker has not woken yet when the link ends.
    connection._handle(Answer(7, {"model": 1}))
    connection._fail_all()
    assert answered.result(0) == {"model": 1}
    assert isinstance(waiting.exception(0), Unavailable)
    assert [each for each, _ in told] == [connection]
    connection.end()


@pytest.mark.parametrize("message", [Done(99, 0, 0, 1), Run(1, 0, 0, None, "bulk"), Hello(1), Cancel(1)])
def test_a_device_that_talks_nonsense_ends_the_connection(ends, message):
    connection = connection_over(ends[0])
    fd, size = ends[1].take_over()
    assert (fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK, size) == (fcntl.F_SEAL_SHRINK, 4096)
    os.close(fd)
    ends[1].send(message)
    until(lambda: not connection.alive)
    with pytest.raises(Unavailable, match="ended before it answered"):
        connection.ask({"loaded": True})
    with pytest.raises(Unavailable):
        connection.run(Run(1, 0, 0, None, "bulk"), SimpleNamespace(), 1)
    with pytest.raises(Unavailable):
        connection.arena.take(1)


def test_answers_to_what_nobody_asked_are_passed_over(ends):
    connection = connection_over(ends[0])
    for message in (Answer(99, {}), Found(99, b""), Lead(99), Failed(99, Unavailable("gone"))):
        ends[1].send(message)
    asking = threading.Thread(target=connection.ask, args=({"loaded": True},))
    asking.start()
    fd, _ = ends[1].take_over()
    os.close(fd)
    ask = ends[1].receive()
    ends[1].send(Answer(ask.id, {"loaded": []}))
    asking.join(PATIENCE_S)
    assert not asking.is_alive()
    assert connection.alive
    connection.end()


def test_a_host_that_has_no_descriptors_left_goes_on_when_it_has(rig, monkeypatch):
    # It stands in accept by now; the next one fails once.
    front, listening = rig.front(), rig.host._listening
    failures = [OSError(24, "Too many open files")]

    class Flaky:
        def accept(self):
            if failures:
                raise failures.pop()
            return listening.accept()

        def __getattr__(self, name):
            return getattr(listening, name)

    monkeypatch.setattr(rig.host, "_listening", Flaky())
    assert_serves(front)
    assert_serves(rig.front())
    assert not failures
