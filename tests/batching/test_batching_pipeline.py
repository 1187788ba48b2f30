"""The engine as a whole: runs at once, batch sizes of a plan, closing under load, callers that go away."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from trunkline_service.batching.device import LocalDevice
from trunkline_service.batching.engine import Caller
from trunkline_service.batching.pipeline import local_engine
from trunkline_service.errors import Cancelled, DeadlineExpired, InternalError, Unavailable
from trunkline_service.images.inputs import PixelTensor
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.registry import LiveModels
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.settings import QueueLimits, Settings

PATIENCE_S = 60


class WatchedSession(ModelSession):
    """A real session; `before` is called with each batch before it runs."""

    def __init__(self, folder, plan, before):
        super().__init__(folder, Device("cpu"), plan)
        self.before, self.sizes = before, []

    def run(self, batch):
        self.sizes.append(len(batch))
        self.before(batch)
        return super().run(batch)


@pytest.fixture
def open_engine(tmp_path, publish_tiny):
    """``open_engine(plan, before, **settings)`` -> (engine, sessions); closed at the end."""
    publish_tiny(tmp_path)
    opened = []

    def open_one(plan=ExecutionPlan(1, 1, 8), before=lambda _batch: None, **changes):  # noqa: B008
        sessions = []

        def open_session(folder):
            sessions.append(WatchedSession(folder, plan, before))
            return sessions[-1]

        limits = QueueLimits(max_images=256, max_bytes=8 << 20, max_batch=16)
        settings = Settings(**{"threads": 2, "queue": limits, **changes})
        models = LiveModels(ModelRepository(tmp_path), open_session, "tiny")
        models.get()
        opened.append(local_engine(models, settings))
        return opened[-1], sessions

    yield open_one
    for engine in opened:
        engine.close(10)


def tensor(value):
    return PixelTensor(np.full((32, 32, 3), value, np.uint8).tobytes(), "uint8", (32, 32, 3))


def until(condition):
    while not condition():
        threading.Event().wait(0.001)


def start(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


def test_a_caller_may_be_ready_to_wait_for_ever(open_engine):
    """Longer than any lock can be waited for."""
    engine, _ = open_engine()
    embedded = engine.embed("tiny", [tensor(3), tensor(4)], Caller(timeout_s=float("inf")))
    assert not np.isnan(embedded.vectors).any()


def test_a_plan_of_two_runs_runs_two_at_once(open_engine):
    meeting = threading.Barrier(2)
    engine, sessions = open_engine(ExecutionPlan(1, 2, 1), lambda _batch: meeting.wait(PATIENCE_S))
    for _ in range(20):
        callers = [start(engine.embed, "tiny", [tensor(value)], Caller()) for value in (1, 2)]
        for caller in callers:
            caller.join()
        embedded = engine.embed("tiny", [tensor(value) for value in range(4)], Caller())
        assert embedded.vectors[:, 0].tolist() == [0, 1, 2, 3]
    assert not meeting.broken
    assert set(sessions[0].sizes) == {1}


def test_no_batch_is_larger_than_the_plan_has_it(open_engine):
    gate = threading.Event()
    engine, sessions = open_engine(ExecutionPlan(1, 1, 6), lambda _batch: gate.wait(PATIENCE_S))
    first = start(engine.embed, "tiny", [tensor(0)], Caller())
    until(lambda: sessions[0].sizes)
    answers = []
    rest = start(
        lambda: answers.append(engine.embed("tiny", [tensor(value) for value in range(13)], Caller()))
    )
    until(lambda: engine.queued()["infer"] == 13)
    gate.set()
    first.join()
    rest.join()
    assert answers[0].vectors[:, 0].tolist() == list(range(13))
    # The largest of the buckets is the plan's six, though the queue's limit would be sixteen.
    assert sessions[0].sizes == [1, 6, 6, 1]


def test_an_image_alone_is_decoded_and_run_by_the_thread_of_its_caller(open_engine):
    idents = []
    engine, _ = open_engine(before=lambda _batch: idents.append(threading.get_ident()))
    engine.embed("tiny", [tensor(1)], Caller())
    assert idents == [threading.get_ident()]


def test_closing_under_load_answers_or_refuses_every_call(open_engine):
    for cache_mb in (0, 1):
        engine, _ = open_engine(ExecutionPlan(1, 2, 4), cache_mb=cache_mb)
        going, outcomes = threading.Semaphore(0), []

        def call(number, engine=engine, going=going, outcomes=outcomes):
            images = [tensor((number + offset) % 7) for offset in range(1 + number % 3)]
            while True:
                try:
                    embedded = engine.embed("tiny", images, Caller())
                except Unavailable as exc:
                    outcomes.append(exc)
                    return
                for index, error in embedded.errors.items():
                    assert isinstance(error, Unavailable), error
                    assert np.isnan(embedded.vectors[index]).all()
                going.release()

        callers = [start(call, number) for number in range(6)]
        for _ in range(30):
            assert going.acquire(timeout=PATIENCE_S)
        engine.close(PATIENCE_S)
        for caller in callers:
            caller.join(PATIENCE_S)
            assert not caller.is_alive()
        assert len(outcomes) == 6
        assert (engine.admission.images, engine.admission.bytes) == (0, 0)


def test_a_closed_device_makes_no_batcher_that_nobody_would_close(tmp_path, publish_tiny):
    publish_tiny(tmp_path)
    models = LiveModels(
        ModelRepository(tmp_path),
        lambda folder: ModelSession(folder, Device("cpu"), ExecutionPlan(1, 1, 1)),
        "tiny",
    )
    device = LocalDevice(models, QueueLimits(), lambda _images, _seconds: None, time.monotonic)
    assert device.close(time.monotonic() + PATIENCE_S) == 0
    with pytest.raises(Unavailable, match="shutting down"):
        device.open("tiny")


def test_a_caller_that_went_away_before_it_could_be_told_so_is_dropped(open_engine):
    engine, sessions = open_engine()
    with pytest.raises(Cancelled):
        engine.embed("tiny", [tensor(1)] * 3, Caller(on_cancel=lambda cancel: cancel()))
    until(lambda: not engine.admission.images)
    assert sessions[0].sizes == []


def test_no_time_at_all_is_an_expired_deadline_and_costs_no_run(open_engine):
    engine, sessions = open_engine(cache_mb=1)
    for images in ([tensor(1)], [tensor(1)] * 3):
        with pytest.raises(DeadlineExpired):
            engine.embed("tiny", images, Caller(timeout_s=0.0))
    until(lambda: not engine.admission.images)
    assert sessions[0].sizes == []


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_an_interrupted_caller_leaves_neither_its_place_nor_its_image_taken(open_engine, cache_mb):
    interrupts = [KeyboardInterrupt()]

    def before(_batch):
        if interrupts:
            raise interrupts.pop()

    engine, _ = open_engine(before=before, cache_mb=cache_mb)
    # An image alone is run in this thread, where Ctrl-C is raised.
    with pytest.raises(KeyboardInterrupt):
        engine.embed("tiny", [tensor(5)], Caller())
    assert (engine.admission.images, engine.admission.bytes) == (0, 0)
    # The same image again: whoever embeds it must not wait for the one that was interrupted.
    assert engine.embed("tiny", [tensor(5)], Caller(timeout_s=PATIENCE_S)).vectors[0, 0] == 5


def test_followers_of_a_failing_run_are_answered_too(open_engine):
    inside, gate = threading.Event(), threading.Event()

    def before(_batch):
        inside.set()
        gate.wait(PATIENCE_S)
        raise RuntimeError("the device is gone")

    engine, _ = open_engine(before=before, cache_mb=1)
    answers = []
    callers = [
        start(lambda: answers.append(engine.embed("tiny", [tensor(5)], Caller()).errors[0])) for _ in range(4)
    ]
    assert inside.wait(PATIENCE_S)
    until(lambda: engine.admission.images == 4)
    gate.set()
    for caller in callers:
        caller.join(PATIENCE_S)
    assert [type(error) for error in answers] == [InternalError] * 4
    assert engine.admission.images == 0
