"""A device behind a link and one in this process: one answer, one error, one bound."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.batching.link.conftest import LIMITS, PATIENCE_S, SETTINGS, solid, tensor, until

from trunkline_service.batching.engine import Caller
from trunkline_service.batching.pipeline import local_engine
from trunkline_service.errors import Cancelled, DeadlineExpired, InternalError, Overloaded, Unavailable
from trunkline_service.images.inputs import EncodedImage


@pytest.fixture
def engines(rig, tmp_path, publish_tiny):
    """(local, linked) over the same models, one of which knows no finite vector."""
    publish_tiny(tmp_path, "infinite", scale=float("inf"))
    local = local_engine(rig.models, SETTINGS)
    yield local, rig.front().engine
    rig.valve.gate.set()
    local.close(10)


def outcome(engine, model, images, caller=None):
    """What a call comes to, in comparable form."""
    try:
        embedded = engine.embed(model, images, caller or Caller())
    except Exception as exc:  # noqa: BLE001 - it is the outcome
        return type(exc), str(exc)
    errors = {index: (type(error), str(error)) for index, error in sorted(embedded.errors.items())}
    return embedded.vectors.tobytes(), errors, embedded.card, embedded.decode


def test_answers_and_errors_are_the_same(engines, png):
    bad = [EncodedImage(png(solid(7))), EncodedImage(b"text"), EncodedImage(b""), tensor(9)]
    photograph = [EncodedImage(png(np.arange(60 * 40 * 3, dtype=np.uint8).reshape(60, 40, 3)))]
    requests = [
        ("tiny", [tensor(value) for value in range(40)]),
        ("tiny@1", [tensor(3)]),
        ("", [tensor(3)]),
        ("tiny", bad),
        ("tiny", photograph),
        ("tiny", []),
        ("infinite", [tensor(5), tensor(6)]),
        ("absent", [tensor(1)]),
        ("tiny@9", [tensor(1)]),
        ("no name!", [tensor(1)]),
        ("tiny", [tensor(1)] * (LIMITS.max_images + 1)),
    ]
    for model, images in requests:
        local, linked = (outcome(engine, model, images) for engine in engines)
        assert local == linked, (model, len(images))
    assert not isinstance(outcome(engines[1], "tiny", bad)[0], type)


def test_what_is_loaded_and_what_is_wrong_are_told_over_the_link(rig):
    front = rig.front()
    assert front.models.loaded() == []
    assert front.models.get("tiny").card == rig.models.get("tiny").card
    assert front.models.loaded() == ["tiny@1"]
    assert front.link.trouble() is None


def test_many_callers_of_two_links_get_their_own_vectors(rig, calls, tiny_vector_of):
    fronts = [rig.front(arena_bytes=32 * 1024) for _ in range(2)]

    def call(front, number):
        values = [(number * 5 + offset) % 256 for offset in range(1 + number % 4)]
        for _ in range(5):
            embedded = front.engine.embed("tiny", [tensor(value) for value in values], Caller())
            assert not embedded.errors
            for row, value in zip(embedded.vectors, values, strict=True):
                np.testing.assert_allclose(row, tiny_vector_of(solid(value)), rtol=1e-6)

    for number in range(12):
        calls.start(call, fronts[number % 2], number)
    assert calls.join() == [None] * 12
    for front in fronts:
        front.assert_idle()


def test_a_full_queue_is_full_for_all_links_together(rig, calls):
    first, second = rig.front(), rig.front()
    second.engine.embed("tiny", [tensor(0)], Caller())
    rig.valve.shut()
    calls.start(first.engine.embed, "tiny", [tensor(1)] * 60, Caller())
    rig.valve.wait_entered()
    with pytest.raises(Overloaded) as caught:
        second.engine.embed("tiny", [tensor(1)] * 5, Caller())
    assert caught.value.retry_after_s > 0
    with pytest.raises(Overloaded):
        second.engine.embed("tiny", [tensor(1)], Caller(lane="bulk"))
    calls.start(second.engine.embed, "tiny", [tensor(1)] * 4, Caller())
    until(lambda: second.admission.images == 4)
    rig.valve.gate.set()
    assert all(not embedded.errors for embedded in calls.join())
    first.assert_idle()
    second.assert_idle()


def test_lanes_hold_across_links(rig, calls):
    bulk, interactive = rig.front(), rig.front()
    interactive.engine.embed("tiny", [tensor(0)], Caller())
    rig.valve.shut()
    calls.start(bulk.engine.embed, "tiny", [tensor(1)], Caller(lane="bulk"))
    rig.valve.wait_entered()
    for count in range(1, 9):
        calls.start(bulk.engine.embed, "tiny", [tensor(count)], Caller(lane="bulk"))
        until(lambda count=count: rig.device.queued() == count)
    for count in range(9, 13):
        calls.start(interactive.engine.embed, "tiny", [tensor(count)], Caller())
        until(lambda count=count: rig.device.queued() == count)
    rig.valve.gate.set()
    calls.join()
    # Those that came last go first.
    assert rig.valve.batches == [[1], [9, 10, 11, 12, 1, 2, 3, 4], [5, 6, 7, 8]]


def test_deadlines_pass_over_the_link_and_cost_no_run(rig):
    front = rig.front()
    front.engine.embed("tiny", [tensor(0)], Caller())
    rig.valve.shut()
    for images in ([tensor(1)] * 20, [tensor(1)]):
        with pytest.raises(DeadlineExpired):
            front.engine.embed("tiny", images, Caller(timeout_s=0.05))
    rig.valve.gate.set()
    front.assert_idle()
    # One batch had been taken before time was up.
    assert sum(rig.valve.sizes) <= 8


def test_a_caller_that_goes_away_takes_its_images_back_from_the_device(rig, calls):
    front, hooks = rig.front(), []
    front.engine.embed("tiny", [tensor(0)], Caller())
    rig.valve.shut()
    calls.start(front.engine.embed, "tiny", [tensor(1)], Caller())
    rig.valve.wait_entered()
    calls.start(front.engine.embed, "tiny", [tensor(2)] * 20, Caller(on_cancel=hooks.append))
    until(lambda: rig.device.queued() == 20)
    hooks[0]()
    calls.threads[1].join(PATIENCE_S)
    assert isinstance(calls.outcomes[0], Cancelled)
    # The packets that say so come in order, before the answer to this.
    assert front.models.loaded()
    rig.valve.gate.set()
    front.assert_idle()
    assert sum(rig.valve.sizes) == 1


def test_an_image_cancelled_while_it_is_sent_is_taken_back_too(rig, calls):
    front = rig.front()
    front.engine.embed("tiny", [tensor(0)], Caller())
    rig.valve.shut()
    calls.start(front.engine.embed, "tiny", [tensor(1)], Caller())
    rig.valve.wait_entered()
    connection, hooks = front.link.connection(), []
    send = connection.run

    def cancel_and_send(message, slot, dim):
        hooks[0]()
        send(message, slot, dim)

    connection.run = cancel_and_send
    with pytest.raises(Cancelled):
        front.engine.embed("tiny", [tensor(2)], Caller(on_cancel=hooks.append))
    assert front.models.loaded()
    rig.valve.gate.set()
    front.assert_idle()
    assert rig.valve.sizes == [1]


def test_no_room_for_pixels_holds_decoding_up_and_nobody_beyond_its_deadline(rig, calls):
    # Room for one image.
    front = rig.front(arena_bytes=32 * 32 * 3)
    front.engine.embed("tiny", [tensor(0)], Caller())
    rig.valve.shut()
    calls.start(front.engine.embed, "tiny", [tensor(1)], Caller())
    rig.valve.wait_entered()
    # Alone, it is decoded by this thread, which must come back.
    with pytest.raises(DeadlineExpired):
        front.engine.embed("tiny", [tensor(1)], Caller(timeout_s=0.05))
    calls.start(front.engine.embed, "tiny", [tensor(value) for value in range(10)], Caller())
    rig.valve.gate.set()
    served = sorted((embedded.vectors[:, 0].tolist() for embedded in calls.join()), key=len)
    assert served == [[1], list(range(10))]
    front.assert_idle()


def test_a_model_that_is_loading_holds_up_nobody_else(rig, tmp_path, publish_tiny, calls):
    publish_tiny(tmp_path, "slow")
    loading, go_on = threading.Semaphore(0), threading.Event()
    open_session = rig.valve.open_session

    def open_slowly(folder):
        if folder.card.name == "slow":
            loading.release()
            go_on.wait(PATIENCE_S)
        return open_session(folder)

    rig.models._open_session = open_slowly
    front, other = rig.front(), rig.front()
    for _ in range(20):
        calls.start(front.engine.embed, "slow", [tensor(1)], Caller())
    assert loading.acquire(timeout=PATIENCE_S)
    until(lambda: len(front.link._opening) == 1)
    for engine in (front.engine, other.engine):
        assert engine.embed("tiny", [tensor(2)], Caller(timeout_s=PATIENCE_S)).vectors[0, 0] == 2
    go_on.set()
    assert all(not embedded.errors for embedded in calls.join())
    assert not front.link._opening


def test_a_failing_run_hides_its_reason_from_the_link(rig, monkeypatch):
    front = rig.front()
    front.engine.embed("tiny", [tensor(0)], Caller())

    def run(_batch):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(rig.models.get("tiny"), "run", run)
    errors = front.engine.embed("tiny", [tensor(1)] * 3, Caller()).errors
    assert {(type(error), "gone" in error.message) for error in errors.values()} == {(InternalError, False)}
    front.assert_idle()


def test_closing_a_front_waits_for_what_the_device_has(rig, calls):
    front = rig.front()
    front.engine.embed("tiny", [tensor(0)], Caller())
    rig.valve.shut()
    calls.start(front.engine.embed, "tiny", [tensor(value) for value in range(5)], Caller())
    until(lambda: front.admission.images == 5)
    rig.valve.wait_entered()
    calls.start(front.engine.close, PATIENCE_S)
    until(front.engine._closing.is_set)
    with pytest.raises(Unavailable):
        front.engine.embed("tiny", [tensor(1)], Caller())
    rig.valve.gate.set()
    calls.join()
    answers = [each for each in calls.outcomes if each is not None]
    assert answers[0].vectors[:, 0].tolist() == list(range(5))
    assert front.admission.images == 0


def test_a_front_that_can_wait_no_longer_lets_its_callers_go(rig, calls):
    front = rig.front()
    front.engine.embed("tiny", [tensor(0)], Caller())
    rig.valve.shut()
    calls.start(front.engine.embed, "tiny", [tensor(1)] * 5, Caller())
    rig.valve.wait_entered()
    until(lambda: front.link.connection().arena.lent == 5 * 32 * 32 * 3)
    arena = front.link.connection().arena
    front.engine.close(0.0)
    assert isinstance(calls.join()[0], Unavailable)
    front.assert_idle(arena)


def test_a_host_that_closes_ends_every_call(rig, calls):
    front = rig.front()
    front.engine.embed("tiny", [tensor(0)], Caller())
    rig.valve.shut()
    arena = front.link.connection().arena
    calls.start(front.engine.embed, "tiny", [tensor(1)] * 5, Caller())
    rig.valve.wait_entered()
    rig.host.close()
    assert isinstance(calls.join()[0], Unavailable)
    front.assert_idle(arena)
    with pytest.raises(Unavailable, match="away"):
        front.engine.embed("tiny", [tensor(1)], Caller())


def test_what_a_front_that_died_had_waiting_is_not_run(rig, calls):
    front, other = rig.front(), rig.front()
    front.engine.embed("tiny", [tensor(0)], Caller())
    rig.valve.shut()
    calls.start(front.engine.embed, "tiny", [tensor(1)], Caller())
    rig.valve.wait_entered()
    calls.start(front.engine.embed, "tiny", [tensor(2)] * 10, Caller())
    until(lambda: rig.device.queued() == 10)
    front.vanish()
    assert [type(outcome) for outcome in calls.join()] == [Unavailable] * 2
    until(lambda: not rig.host._peers)
    calls.start(other.engine.embed, "tiny", [tensor(3)], Caller())
    until(lambda: rig.device.queued() == 11)
    rig.valve.gate.set()
    assert calls.join()[2].vectors[0, 0] == 3
    assert rig.valve.batches == [[1], [3]]
