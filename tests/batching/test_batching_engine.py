"""The engine over a real session: order, isolation of bad images, overload, cancellation, drain."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest

from trunkline_service.batching.engine import Caller
from trunkline_service.batching.pipeline import local_engine
from trunkline_service.errors import Cancelled, DeadlineExpired, InternalError, Overloaded, Unavailable
from trunkline_service.images.inputs import EncodedImage, PixelTensor
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.registry import LiveModels
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.session import Device, ModelSession
from trunkline_service.settings import QueueLimits, Settings


class GatedSession(ModelSession):
    """A real session whose runs wait for permission, and can be told to fail."""

    def __init__(self, folder, gate, broken):
        super().__init__(folder, Device("cpu"), ExecutionPlan(threads=1, runs=1, batch=8))
        self.gate, self.broken, self.sizes, self.entered = gate, broken, [], threading.Event()

    def run(self, batch):
        self.entered.set()
        self.gate.wait()
        self.sizes.append(len(batch))
        if self.broken.is_set():
            raise RuntimeError("the device is gone")
        return super().run(batch)


@pytest.fixture
def rig(tmp_path, publish_tiny):
    """(engine, sessions, gate, broken) over the tiny model; the gate is open."""
    publish_tiny(tmp_path)
    gate, broken, sessions = threading.Event(), threading.Event(), []
    gate.set()

    def open_session(folder):
        sessions.append(GatedSession(folder, gate, broken))
        return sessions[-1]

    settings = Settings(threads=2, queue=QueueLimits(max_images=64, max_bytes=1 << 20, max_batch=8))
    engine = local_engine(LiveModels(ModelRepository(tmp_path), open_session, "tiny"), settings)
    yield engine, sessions, gate, broken
    gate.set()
    engine.close(10)


def solid(value):
    return np.full((32, 32, 3), value, np.uint8)


def tensor(value):
    return PixelTensor(solid(value).tobytes(), "uint8", (32, 32, 3))


def test_vectors_come_back_in_order(rig, tiny_vector_of):
    engine, *_ = rig
    embedded = engine.embed("tiny", [tensor(value) for value in range(40)], Caller())
    assert not embedded.errors
    for value in range(40):
        np.testing.assert_allclose(embedded.vectors[value], tiny_vector_of(solid(value)), rtol=1e-6)


def test_a_bad_image_fails_alone(rig, png):
    engine, *_ = rig
    images = [EncodedImage(png(solid(7))), EncodedImage(b"text"), EncodedImage(b""), tensor(9)]
    embedded = engine.embed("tiny", images, Caller())
    assert {index: error.reason for index, error in embedded.errors.items()} == {
        1: "unsupported_image",
        2: "empty_image",
    }
    assert np.isnan(embedded.vectors[[1, 2]]).all()
    assert np.isfinite(embedded.vectors[[0, 3]]).all()


def test_no_images_is_an_empty_answer(rig):
    assert rig[0].embed("tiny", [], Caller(timeout_s=5)).vectors.shape == (0, 48)


def test_a_full_queue_refuses_at_once_and_takes_work_again_later(rig):
    engine, sessions, gate, _ = rig
    engine.embed("tiny", [tensor(0)], Caller())
    gate.clear()
    waiting = threading.Thread(target=engine.embed, args=("tiny", [tensor(1)] * 64, Caller()))
    waiting.start()
    sessions[0].entered.wait()
    while engine.admission.images < 64:
        threading.Event().wait(0.001)
    with pytest.raises(Overloaded) as caught:
        engine.embed("tiny", [tensor(2)], Caller())
    assert caught.value.retry_after_s > 0
    gate.set()
    waiting.join()
    assert engine.admission.images == 0
    assert engine.embed("tiny", [tensor(3)], Caller()).vectors[0, 0] == 3


def occupy(rig):
    """Closes the gate with the device busy on one image; returns the thread that waits for it."""
    engine, sessions, gate, _ = rig
    engine.embed("tiny", [tensor(0)], Caller())
    gate.clear()
    sessions[0].entered.clear()
    sessions[0].sizes.clear()
    first = threading.Thread(target=engine.embed, args=("tiny", [tensor(1)], Caller()))
    first.start()
    sessions[0].entered.wait()
    return first


def test_batches_form_while_the_device_is_busy(rig):
    engine, sessions, gate, _ = rig
    callers = [occupy(rig)]
    callers += [
        threading.Thread(target=engine.embed, args=("tiny", [tensor(1)], Caller())) for _ in range(16)
    ]
    for caller in callers[1:]:
        caller.start()
    while engine.queued()["infer"] < 16:
        threading.Event().wait(0.001)
    gate.set()
    for caller in callers:
        caller.join()
    assert sessions[0].sizes == [1, 8, 8]


def test_time_running_out_and_cancellation_drop_what_waits(rig):
    engine, sessions, gate, _ = rig
    engine.embed("tiny", [tensor(0)], Caller())
    gate.clear()
    sessions[0].entered.clear()
    with pytest.raises(DeadlineExpired):
        engine.embed("tiny", [tensor(1)] * 20, Caller(timeout_s=0.05))
    hooks = []
    failures = []

    def call():
        try:
            engine.embed("tiny", [tensor(1)] * 20, Caller(on_cancel=hooks.append))
        except Cancelled as error:
            failures.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    while not hooks:
        threading.Event().wait(0.001)
    hooks[0]()
    caller.join()
    assert len(failures) == 1
    sessions[0].sizes.clear()
    gate.set()
    assert engine.embed("tiny", [tensor(5)], Caller()).vectors[0, 0] == 5
    # Only what had left the queue before it died was run; the rest cost nothing.
    # One batch had been dispatched before, and one image came after.
    assert sum(sessions[0].sizes) <= 8 + 1
    while engine.admission.images:
        threading.Event().wait(0.001)


def test_a_failing_batch_fails_its_images_and_the_stage_lives_on(rig):
    engine, _, _, broken = rig
    broken.set()
    embedded = engine.embed("tiny", [tensor(1)] * 3, Caller())
    assert {type(error) for error in embedded.errors.values()} == {InternalError}
    assert "gone" not in embedded.errors[0].message
    for _ in range(3):
        engine.embed("tiny", [tensor(1)], Caller())
    assert "in a row" in (engine.trouble() or "")
    broken.clear()
    assert engine.embed("tiny", [tensor(4)], Caller()).vectors[0, 0] == 4
    assert engine.trouble() is None


def test_batches_have_warmed_sizes_though_the_dead_leave_the_queue(rig):
    engine, sessions, gate, _ = rig
    callers = [occupy(rig)]
    hooks = []
    callers += [
        threading.Thread(target=call_quietly, args=(engine, Caller(on_cancel=hooks.append)))
        for _ in range(13)
    ]
    for caller in callers[1:]:
        caller.start()
    while engine.queued()["infer"] < 13 or len(hooks) < 13:
        threading.Event().wait(0.001)
    for hook in hooks[3:]:
        hook()
    gate.set()
    for caller in callers:
        caller.join()
    # Three live ones among thirteen: taken as eight and five, run as warmed sizes.
    assert sum(sessions[0].sizes) == 1 + 3
    assert set(sessions[0].sizes) <= {1, 2, 4, 8}


def call_quietly(engine, caller):
    with contextlib.suppress(Cancelled):
        engine.embed("tiny", [tensor(1)], caller)


def test_closing_finishes_what_was_admitted_and_refuses_the_rest(rig):
    engine, sessions, gate, _ = rig
    engine.embed("tiny", [tensor(0)], Caller())
    gate.clear()
    sessions[0].entered.clear()
    answers = []
    caller = threading.Thread(
        target=lambda: answers.append(engine.embed("tiny", [tensor(value) for value in range(30)], Caller()))
    )
    caller.start()
    sessions[0].entered.wait()
    closer = threading.Thread(target=engine.close, args=(10,))
    closer.start()
    while True:
        try:
            engine.embed("tiny", [tensor(1)], Caller(timeout_s=0.01))
        except Unavailable:
            break
        except DeadlineExpired:
            continue
    gate.set()
    closer.join()
    caller.join()
    assert not answers[0].errors
    assert [int(row[0]) for row in answers[0].vectors] == list(range(30))


def test_a_stage_that_hangs_is_trouble(tmp_path, publish_tiny):
    publish_tiny(tmp_path)
    gate, now = threading.Event(), [0.0]
    sessions = []

    def open_session(folder):
        sessions.append(GatedSession(folder, gate, threading.Event()))
        return sessions[-1]

    engine = local_engine(
        LiveModels(ModelRepository(tmp_path), open_session, "tiny"), Settings(threads=1), clock=lambda: now[0]
    )
    caller = threading.Thread(target=engine.embed, args=("tiny", [tensor(1)], Caller()))
    caller.start()
    while not sessions:
        threading.Event().wait(0.001)
    sessions[0].entered.wait()
    assert engine.trouble() is None
    now[0] = 1000.0
    assert "busy" in (engine.trouble() or "")
    gate.set()
    caller.join()
    engine.close(10)


def test_a_batch_never_changes_a_vector(rig):
    engine, *_ = rig
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
    inputs = [PixelTensor(image.tobytes(), "uint8", (32, 32, 3)) for image in pixels]
    together = engine.embed("tiny", inputs, Caller()).vectors
    alone = np.concatenate([engine.embed("tiny", [image], Caller()).vectors for image in inputs])
    np.testing.assert_allclose(alone, together, rtol=1e-5)
