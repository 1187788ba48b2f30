"""The cache of the device's process, claimed over links: hits, followers, and leaders that come to grief."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from tests.batching.link.conftest import PATIENCE_S, tensor, until

from trunkline_service.batching.engine import Caller
from trunkline_service.batching.link.claims import LinkedCache
from trunkline_service.batching.request import Request, Slot
from trunkline_service.errors import (
    Cancelled,
    DeadlineExpired,
    NonFiniteEmbedding,
    Unavailable,
    UnsupportedImage,
)
from trunkline_service.images.inputs import EncodedImage

PIXELS = 32 * 32 * 3


@pytest.fixture
def fronts(rig, publish_tiny, tmp_path):
    """Two, with a model that is open at both; nothing is left of any call at the end."""
    publish_tiny(tmp_path, "infinite", scale=float("inf"))
    made = [rig.front(cache=True) for _ in range(2)]
    for front in made:
        front.models.get("tiny")
        front.models.get("infinite")
    yield made
    rig.valve.gate.set()
    until(lambda: rig.cache.pending == 0 and not rig.quota.rows.any())
    for front in made:
        front.assert_idle()
    until(lambda: not any(peer._claims for peer in rig.host._peers))


def embed(front, value, **caller):
    embedded = front.engine.embed("tiny", [tensor(value)], Caller(**caller))
    if embedded.errors:
        raise embedded.errors[0]
    return embedded.vectors[0, 0]


def lead_and_follow(rig, fronts, calls, value=5, **leading):
    """The first front's run is under way, and the second waits for what comes out."""
    rig.valve.shut()
    calls.start(lambda: embed(fronts[0], value, **leading))
    rig.valve.wait_entered()
    calls.start(lambda: embed(fronts[1], value))
    until(lambda: rig.cache.pending == 2)


def test_what_one_link_computed_another_finds(rig, fronts):
    first = fronts[0].engine.embed("tiny", [tensor(value) for value in range(12)], Caller())
    again = fronts[1].engine.embed("tiny", [tensor(value) for value in range(12)], Caller())
    assert first.vectors.tobytes() == again.vectors.tobytes()
    assert sum(rig.valve.sizes) == 12
    assert rig.cache.entries == 12


def test_what_one_link_computes_another_waits_for(rig, fronts, calls):
    lead_and_follow(rig, fronts, calls)
    rig.valve.gate.set()
    assert calls.join() == [5, 5]
    assert rig.valve.sizes == [1]


def test_equal_images_of_one_call_are_run_once(rig, fronts):
    embedded = fronts[0].engine.embed("tiny", [tensor(5)] * 20, Caller())
    assert embedded.vectors[:, 0].tolist() == [5] * 20
    assert rig.valve.sizes == [1]


def test_a_leader_that_goes_away_before_its_turn_leaves_the_lead_to_the_next(rig, fronts, calls):
    rig.valve.shut()
    calls.start(lambda: embed(fronts[0], 1))
    rig.valve.wait_entered()
    hooks = []
    calls.start(lambda: embed(fronts[0], 5, on_cancel=hooks.append))
    until(lambda: rig.device.queued() == 1)
    calls.start(lambda: embed(fronts[1], 5))
    until(lambda: rig.cache.pending == 3)
    hooks[0]()
    calls.threads[1].join(PATIENCE_S)
    assert isinstance(calls.outcomes[0], Cancelled)
    assert fronts[0].models.loaded()
    rig.valve.gate.set()
    assert sorted(calls.join()[1:]) == [1, 5]
    assert rig.valve.sizes == [1, 1]


def test_a_leader_whose_time_is_up_leaves_the_lead_to_the_next(rig, fronts, calls):
    rig.valve.shut()
    calls.start(lambda: embed(fronts[0], 1))
    rig.valve.wait_entered()
    with pytest.raises(DeadlineExpired):
        embed(fronts[0], 5, timeout_s=0.05)
    calls.start(lambda: embed(fronts[1], 5))
    rig.valve.gate.set()
    assert sorted(calls.join()) == [1, 5]


def test_a_follower_that_goes_away_holds_nobody_up(rig, fronts, calls):
    lead_and_follow(rig, fronts, calls)
    with pytest.raises(DeadlineExpired):
        embed(fronts[1], 5, timeout_s=0.05)
    until(lambda: rig.cache.pending == 2)
    rig.valve.gate.set()
    assert calls.join() == [5, 5]


def test_an_image_that_can_not_be_used_fails_for_all_who_bring_it(fronts, calls):
    for number in range(8):
        front = fronts[number % 2]
        calls.start(
            lambda front=front: front.engine.embed("tiny", [EncodedImage(b"text")] * 3, Caller()).errors
        )
    for errors in calls.join():
        assert {index: type(error) for index, error in errors.items()} == dict.fromkeys(
            range(3), UnsupportedImage
        )


def test_a_vector_that_is_not_finite_fails_for_all_who_wait(rig, fronts, calls):
    rig.valve.shut()

    def call(front):
        return type(front.engine.embed("infinite", [tensor(5)], Caller()).errors[0])

    calls.start(call, fronts[0])
    rig.valve.wait_entered()
    calls.start(call, fronts[1])
    until(lambda: rig.cache.pending == 2)
    rig.valve.gate.set()
    assert calls.join() == [NonFiniteEmbedding] * 2
    assert rig.valve.sizes == [1]
    assert rig.cache.entries == 0


def test_interactive_callers_do_not_wait_for_bulk(rig, fronts, calls):
    rig.valve.shut()
    calls.start(lambda: embed(fronts[0], 1))
    rig.valve.wait_entered()
    calls.start(lambda: embed(fronts[0], 5, lane="bulk"))
    until(lambda: rig.device.queued() == 1)
    calls.start(lambda: embed(fronts[1], 5))
    until(lambda: rig.device.queued() == 2)
    rig.valve.gate.set()
    assert sorted(calls.join()) == [1, 5, 5]


def test_a_front_that_dies_while_its_run_is_under_way_has_led_to_the_end(rig, fronts, calls):
    lead_and_follow(rig, fronts, calls)
    arena = fronts[0].link.connection().arena
    fronts[0].vanish()
    calls.threads[0].join(PATIENCE_S)
    assert isinstance(calls.outcomes[0], Unavailable)
    assert arena.lent == 0
    rig.valve.gate.set()
    assert calls.join()[1] == 5
    # The run that nobody waited for at its own end was good for the other.
    assert rig.valve.sizes == [1]


def test_a_front_that_dies_before_its_turn_leaves_the_lead_to_the_next(rig, fronts, calls):
    rig.valve.shut()
    calls.start(lambda: embed(fronts[1], 1))
    rig.valve.wait_entered()
    calls.start(lambda: embed(fronts[0], 5))
    until(lambda: rig.device.queued() == 1)
    calls.start(lambda: embed(fronts[1], 5))
    until(lambda: rig.cache.pending == 3)
    fronts[0].vanish()
    until(lambda: len(rig.host._peers) == 1)
    rig.valve.gate.set()
    calls.join()
    assert isinstance(calls.outcomes[0], Unavailable)
    assert sorted(calls.outcomes[1:]) == [1, 5]


def test_a_front_that_dies_while_it_decodes_leaves_the_lead_to_the_next(rig, fronts, calls):
    # There is room for one image, so the second stands in the decode pool when the front dies.
    small = rig.front(cache=True, arena_bytes=PIXELS)
    small.models.get("tiny")
    rig.valve.shut()
    calls.start(lambda: embed(small, 1))
    rig.valve.wait_entered()
    calls.start(lambda: embed(small, 5))
    until(lambda: rig.cache.pending == 2)
    calls.start(lambda: embed(fronts[0], 5))
    until(lambda: rig.cache.pending == 3)
    small.vanish()
    for thread in calls.threads[:2]:
        thread.join(PATIENCE_S)
    assert [type(outcome) for outcome in calls.outcomes] == [Unavailable] * 2
    rig.valve.gate.set()
    assert calls.join()[2] == 5


def test_a_dead_connection_ends_its_own_claims_only():
    """A new connection can have claims before the end of the old one is told."""
    told, sent = [], []
    connections = [SimpleNamespace(send=sent.append) for _ in range(2)]
    device = SimpleNamespace(
        when_claims_end=lambda answered, all_failed: told.extend((answered, all_failed)),
        new_id=iter(range(1, 9)).__next__,
        connection=lambda: connections[0],
        living=lambda: None,
    )
    cache = LinkedCache(device)
    outcomes = {}

    def claim(name):
        request = Request(SimpleNamespace(card=SimpleNamespace(dim=1)), 1, "interactive", None)
        claimant = SimpleNamespace(
            slot=Slot(request, 0, None, 1),
            failed=lambda error: outcomes.update({name: type(error)}),
            found=lambda vector: outcomes.update({name: vector.tolist()}),
        )
        cache.claim(bytes(32), claimant)
        return claimant

    old = claim("old")
    device.connection = lambda: connections[1]
    new = claim("new")
    told[1](connections[0], "gone")
    assert outcomes == {"old": Unavailable}
    assert not cache.forget(old)
    # Nor is anybody else told of what has ended with its connection.
    cache.resign(old, None)
    assert [message.id for message in sent] == [1, 2]
    assert cache.forget(new)


def test_any_mixture_of_callers_leaves_nothing_behind(rig, fronts, calls):
    """Few images and many who want them, some of whom lose patience or go away."""

    def call(front, seed):
        rng, wrong = random.Random(seed), []
        for _ in range(15):
            values = [rng.randrange(60) for _ in range(rng.randint(1, 4))]
            images = [EncodedImage(b"text") if value == 0 else tensor(value) for value in values]
            hooks = []
            caller = Caller(
                rng.choice(["interactive", "bulk"]),
                rng.choice([None, None, 0.001, 0.01]),
                hooks.append if rng.random() < 0.7 else lambda cancel: cancel(),
            )
            try:
                embedded = front.engine.embed("tiny", images, caller)
            except (Cancelled, DeadlineExpired):
                continue
            for index, value in enumerate(values):
                error = embedded.errors.get(index)
                expected = (UnsupportedImage, DeadlineExpired) if value == 0 else DeadlineExpired
                if not (
                    isinstance(error, expected) or (error is None and embedded.vectors[index, 0] == value)
                ):
                    wrong.append((value, error))
        return wrong

    for seed in range(8):
        calls.start(call, fronts[seed % 2], seed)
    assert calls.join() == [[]] * 8


def test_closing_a_front_while_it_waits_for_another_ends_its_calls(rig, fronts, calls):
    lead_and_follow(rig, fronts, calls)
    leaving = rig.fronts.pop()
    assert leaving is fronts.pop()
    leaving.engine.close(0.0)
    calls.threads[1].join(PATIENCE_S)
    assert isinstance(calls.outcomes[0], Unavailable)
    assert leaving.admission.images == 0
    rig.valve.gate.set()
    assert calls.join()[1] == 5
