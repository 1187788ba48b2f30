"""Work whose caller let its stream go, wherever the stream is ended then."""

from __future__ import annotations

import threading

import pytest

from trunkline_service.errors import Cancelled
from trunkline_service.server import working

PATIENCE_S = 60


class Context:
    """Of a call that goes on."""

    def add_callback(self, callback):
        return True


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
