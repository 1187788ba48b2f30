"""Work behind a stream: what it tells and raises, and how it ends when its caller lets the stream go."""

from __future__ import annotations

import threading

import pytest

from trunkline_service.errors import Cancelled, NotEnoughData
from trunkline_service.server import working

PATIENCE_S = 60


class Context:
    """A call that can be left."""

    def __init__(self, gone=False):
        self.gone = gone
        self.callbacks = []

    def add_callback(self, function):
        self.callbacks.append(function)
        return not self.gone

    def leave(self):
        for function in self.callbacks:
            function()


def test_the_collector_may_end_a_stream_in_the_thread_that_works_for_it():
    streams, workers, suspended, ended = [], [], threading.Event(), []

    def work(report):
        workers.append(threading.current_thread())
        report("fitting", 0.0)
        assert suspended.wait(PATIENCE_S)
        try:
            # What the collector does where it finds a generator that nobody holds.
            streams[0].close()
        finally:
            ended.append(True)
        with pytest.raises(Cancelled):
            report("fitting", 1.0)
        ended.append("told")

    streams.append(working.stream(work, Context()))
    assert next(streams[0]) == working.Step("fitting", 0.0)
    suspended.set()
    workers[0].join(PATIENCE_S)
    assert ended == [True, "told"]


def test_work_tells_how_far_it_is_and_what_it_gave():
    def work(report):
        report("a", 0.0)
        for step in range(10_000):
            report("b", step / 10_000)
        report("b", 1.0)
        return 42

    *steps, done = working.stream(work, Context())
    assert done == working.Done(42)
    assert steps[0] == working.Step("a", 0.0)
    assert steps[-1] == working.Step("b", 1.0)
    assert 100 < len(steps) < 300
    assert [step.share for step in steps[1:]] == sorted(step.share for step in steps[1:])


def test_what_work_raises_is_raised_to_the_caller():
    def work(report):
        report("a", 0.0)
        raise NotEnoughData("two rows")

    found = working.stream(work, Context())
    assert next(found).stage == "a"
    with pytest.raises(NotEnoughData, match="two rows"):
        next(found)


@pytest.mark.parametrize("way", ["context", "close", "before"])
def test_work_ends_with_its_caller(way):
    ended = threading.Event()

    def work(report):
        try:
            while True:
                report("a", 0.0)
        finally:
            ended.set()

    context = Context(gone=way == "before")
    found = working.stream(work, context)
    if way == "close":
        next(found)
        found.close()
    else:
        if way == "context":
            next(found)
            context.leave()
        with pytest.raises(Cancelled):
            list(found)
    assert ended.is_set()
