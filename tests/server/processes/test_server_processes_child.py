"""A child process: whatever its role is at, it hears that it is to end, and that nobody is left to tell it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys

import pytest

from trunkline_service.server.listening import Address, Security
from trunkline_service.server.processes.control import Control
from trunkline_service.server.processes.messages import Ending, Health, Parts, Ready, Start, Stop
from trunkline_service.settings import Settings

from .fake_supervisor import FAKE_CHILD

PATIENCE_S = 60


@pytest.fixture
def events(tmp_path):
    """What the fake front tells."""
    os.mkfifo(tmp_path / "events")
    with os.fdopen(os.open(tmp_path / "events", os.O_RDWR), "rb", buffering=0) as opened:
        yield opened


@pytest.fixture
def starting(tmp_path, events):
    """A fake front that was told what it is, and the channel to it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    start = Start(
        part="front-0",
        role="front",
        number=0,
        settings=Settings(data=str(tmp_path)),
        address=Address("127.0.0.1", 1),
        security=Security(),
        folder=folder,
        quota_fd=0,
        quota_row=0,
        log_level=logging.CRITICAL,
    )
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, str(FAKE_CHILD), "front-0", str(theirs.fileno())], pass_fds=[theirs.fileno()]
    )
    theirs.close()
    control = Control(ours)
    control.send(start)
    yield process, control, folder
    process.kill()
    process.wait()
    control.close()


@pytest.fixture
def child(starting):
    """One that is ready."""
    assert starting[1].receive() == Ready(None)
    return starting


@pytest.fixture
def hangs_when_made(tmp_path):
    (tmp_path / "front-0-is-made").touch()


def hears(control, health):
    """Reads until the child says so."""
    while control.receive() != health:
        pass


def test_it_says_how_it_is_when_it_hears_of_others(child):
    _, control, _ = child
    hears(control, Health("device"))
    control.send(Parts({}))
    hears(control, Health(None))
    control.send(Parts({"data": "it hangs"}))
    hears(control, Health("data"))


def test_it_ends_when_it_is_told_and_gives_its_metrics(child):
    process, control, folder = child
    control.send(Ending())
    control.send(Stop(5.0))
    messages = []
    while (message := control.receive()) is not None:
        messages.append(message)
    assert "trunkline_calls_total" in messages[-1].text
    assert process.wait(PATIENCE_S) == 0
    assert folder.exists()


@pytest.mark.parametrize("hangs", [False, True])
def test_without_a_supervisor_it_ends_at_once_and_takes_the_folder_with_it(child, hangs):
    process, control, folder = child
    if hangs:
        control.send(Parts({"hang": "for ever"}))
    control.end()
    assert process.wait(PATIENCE_S) == 70
    assert not folder.exists()


def test_a_role_that_hangs_does_not_keep_it_from_ending(child):
    process, control, _ = child
    control.send(Parts({"hang": "for ever"}))
    control.send(Stop(5.0))
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.usefixtures("hangs_when_made")
def test_without_a_supervisor_it_ends_while_its_role_is_made(events, starting):
    process, control, folder = starting
    assert b"making" in events.readline()
    control.end()
    assert process.wait(PATIENCE_S) == 70
    assert not folder.exists()


def test_one_that_ends_by_itself_goes_on_to_say_so(tmp_path, child):
    process, control, _ = child
    (tmp_path / "front-0-hangs").touch()
    process.send_signal(signal.SIGTERM)
    for _ in range(2):
        hears(control, Health("it is ending"))
