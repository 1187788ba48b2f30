"""A mailbox: who may enter, who may take, and when either would wait."""

from __future__ import annotations

import time

import pytest
from tests.batching.stages import Owner

from trunkline_service.batching.mailbox import Mailbox
from trunkline_service.errors import Unavailable


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
