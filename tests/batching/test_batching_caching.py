"""The gate before decoding: what is looked up, what follows, and what becomes of those whose leader fails."""

from __future__ import annotations

import threading
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_service.batching.cache import EmbeddingCache
from trunkline_service.batching.caching import CachingGate, key_of
from trunkline_service.batching.request import Request, Slot
from trunkline_service.errors import CorruptImage, InternalError, Overloaded, Unavailable
from trunkline_service.images.inputs import EncodedImage, PixelTensor
from trunkline_service.server.metrics import Metrics

DIM = 3


def card_of(artifact="artifact", space="space"):
    return SimpleNamespace(dim=DIM, space_id=space, artifact=SimpleNamespace(artifact_id=artifact))


CARD = card_of()


class Stages:
    """What lies behind the gate: slots wait here until the test ends them."""

    def __init__(self):
        self.now, self.later, self.time = [], [], 0.0

    def clock(self):
        return self.time

    def decode(self, slots):
        self.now.append(list(slots))

    def hand_over(self, slots):
        self.later.append(list(slots))

    @staticmethod
    def serve(slot, value):
        slot.store(np.full(DIM, value, np.float32))
        slot.settle(None)


class Rig:
    """A gate with a cache, over `Stages`."""

    def __init__(self, max_bytes=1 << 20):
        self.stages, self.metrics = Stages(), Metrics()
        self.cache = EmbeddingCache(max_bytes, self.metrics)
        self.gate = CachingGate(self.cache, self.stages.clock, self.metrics)
        self.metrics.watch_cache(lambda: self.cache.entries, lambda: self.cache.nbytes)

    def send(self, *texts, lane="interactive", deadline=None, card=CARD, decode=None, later=None):
        """A request with these bytes for images; (request, slots)."""
        request = Request(
            SimpleNamespace(card=card), len(texts), lane, deadline, on_settled=self.gate.settled
        )
        slots = [Slot(request, index, EncodedImage(text), 1) for index, text in enumerate(texts)]
        self.gate.claim(slots, decode or self.stages.decode, later or self.stages.hand_over)
        return request, slots

    def count(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def rig():
    made = Rig()
    yield made
    assert made.cache.pending == 0
    assert not made.gate._claims


def test_what_is_known_is_answered_without_decoding(rig):
    first, (slot,) = rig.send(b"a")
    rig.stages.serve(slot, 7)
    again, _ = rig.send(b"a", b"a")
    assert rig.stages.now == [[slot]]
    assert again.wait(0)
    np.testing.assert_array_equal(again.vectors, np.full((2, DIM), 7, np.float32))
    assert not first.errors
    assert not again.errors
    counts = {
        result: rig.count("trunkline_cache_images_total", result=result)
        for result in ("hit", "joined", "miss")
    }
    assert counts == {"hit": 2, "joined": 0, "miss": 1}
    assert rig.count("trunkline_cache_entries") == 1
    assert rig.count("trunkline_cache_bytes") == rig.cache.nbytes > 0


def test_a_caller_may_write_into_what_it_got(rig):
    request, (slot,) = rig.send(b"a")
    rig.stages.serve(slot, 7)
    request.vectors[:] = 0
    hit, _ = rig.send(b"a")
    hit.vectors[:] = 0
    np.testing.assert_array_equal(rig.send(b"a")[0].vectors, np.full((1, DIM), 7, np.float32))


def test_slots_of_one_request_that_lead_are_passed_on_together(rig):
    request, slots = rig.send(b"a", b"b", b"a", b"c")
    assert rig.stages.now == [[slots[0], slots[1], slots[3]]]
    for slot in rig.stages.now[0]:
        rig.stages.serve(slot, slot.index)
    assert request.wait(0)
    assert request.vectors[:, 0].tolist() == [0, 1, 0, 3]
    assert rig.stages.later == []


def test_equal_images_of_two_calls_are_decoded_once(rig):
    _, (leader,) = rig.send(b"a")
    follower, (waiting,) = rig.send(b"a")
    assert not follower.wait(0)
    assert waiting.image is not None
    rig.stages.serve(leader, 4)
    assert follower.wait(0)
    assert follower.vectors.tolist() == [[4.0] * DIM]
    assert rig.stages.now == [[leader]]


def test_a_bad_image_is_bad_for_everybody_who_sent_it(rig):
    _, (leader,) = rig.send(b"a")
    follower, _ = rig.send(b"a", b"b")
    leader.settle(CorruptImage("no image"))
    assert {index: error.reason for index, error in follower.errors.items()} == {0: "corrupt_image"}
    assert not follower.wait(0)
    assert rig.count("trunkline_image_errors_total", reason="corrupt_image") == 1
    rig.stages.serve(rig.stages.now[1][0], 1)
    assert follower.wait(0)
    # Not remembered: limits may be changed by the time it comes again.
    _, (again,) = rig.send(b"a")
    assert rig.stages.now[-1] == [again]
    rig.stages.serve(again, 1)


@pytest.mark.parametrize("error", [Overloaded("full", 1.0), Unavailable("away"), InternalError()])
def test_another_caller_s_misfortune_is_not_the_follower_s(rig, error):
    _, (leader,) = rig.send(b"a")
    follower, (heir,) = rig.send(b"a")
    third, _ = rig.send(b"a")
    leader.settle(error)
    assert not follower.errors
    assert rig.stages.later == [[heir]]
    rig.stages.serve(heir, 2)
    assert follower.wait(0)
    assert third.wait(0)
    assert third.vectors[0, 0] == 2


def test_claims_of_another_process_are_answered_from_its_thread_or_not_at_all(rig):
    class Away:
        """Answers when told, as a cache behind a link does."""

        def __init__(self):
            self.claims = []

        def claim(self, key, claimant):
            self.claims.append(claimant)

        def fill(self, key, vector):
            pass

        def resign(self, claimant, error):
            self.claims.append((claimant, error))

    away = Away()
    rig.gate = CachingGate(away, rig.stages.clock, rig.metrics)
    request, slots = rig.send(b"a", b"b", b"c")
    found, leads, failed = away.claims
    found.found(np.ones(DIM, np.float32))
    assert leads.lead()
    failed.failed(Unavailable("the link is gone"))
    assert (rig.stages.now, rig.stages.later) == ([], [[slots[1]]])
    overloaded = Overloaded("full", 1.0)
    slots[1].settle(overloaded)
    assert away.claims[3:] == [(leads, overloaded)]
    assert request.wait(0)
    assert {index: error.reason for index, error in request.errors.items()} == {
        1: "overloaded",
        2: "unavailable",
    }
    assert rig.count("trunkline_image_errors_total", reason="unavailable") is None


def test_followers_that_expired_neither_lead_nor_wait(rig):
    _, (leader,) = rig.send(b"a", deadline=1.0)
    expired, _ = rig.send(b"a", deadline=1.0)
    patient, (heir,) = rig.send(b"a", deadline=9.0)
    rig.stages.time = 2.0
    leader.settle(leader.request.verdict(2.0))
    assert expired.wait(0)
    assert expired.errors[0].reason == "deadline_expired"
    assert rig.stages.later == [[heir]]
    assert not patient.wait(0)
    rig.stages.serve(heir, 1)
    assert patient.wait(0)
    assert rig.count("trunkline_dropped_images_total", reason="deadline_expired") == 1


def test_a_cancelled_follower_ends_while_its_leader_goes_on(rig):
    _, (leader,) = rig.send(b"a")
    gone, slots = rig.send(b"a", b"b")
    stays, _ = rig.send(b"a")
    gone.cancel()
    rig.gate.leave(slots)
    assert [slot.settled for slot in slots] == [True, False]
    assert gone.errors[0].reason == "cancelled"
    rig.gate.leave(slots)
    slots[1].settle(gone.verdict(0.0))
    rig.stages.serve(leader, 3)
    assert stays.wait(0)
    assert stays.vectors[0, 0] == 3
    assert rig.count("trunkline_dropped_images_total", reason="cancelled") == 1


def test_a_request_that_expired_before_it_was_claimed_leads_nobody(rig):
    rig.stages.time = 2.0
    request, _ = rig.send(b"a", b"b", deadline=1.0)
    assert request.wait(0)
    assert {error.reason for error in request.errors.values()} == {"deadline_expired"}
    assert rig.stages.now == rig.stages.later == []


def test_a_thousand_followers_of_a_broken_device_do_not_exhaust_the_stack(rig):
    def refuse(slots):
        for slot in slots:
            slot.settle(Unavailable("closed"))

    _, (leader,) = rig.send(b"a")
    followers = [rig.send(b"a", later=refuse)[0] for _ in range(1000)]
    leader.settle(Unavailable("closed"))
    assert all(request.wait(0) for request in followers)
    assert {request.errors[0].reason for request in followers} == {"unavailable"}


def test_a_thousand_followers_that_expired_do_not_exhaust_the_stack(rig):
    _, (leader,) = rig.send(b"a")
    followers = [rig.send(b"a", deadline=1.0)[0] for _ in range(1000)]
    rig.stages.time = 2.0
    leader.settle(Unavailable("away"))
    assert {request.errors[0].reason for request in followers} == {"deadline_expired"}
    assert rig.stages.later == []


def test_who_follows_an_expired_slot_is_not_decoded_on_its_thread(rig, monkeypatch):
    followers = []

    def join(result):
        if not followers:
            followers.append(None)
            followers[:] = [rig.send(b"a")]

    monkeypatch.setattr(rig.metrics, "cached", join)
    rig.stages.time = 2.0
    rig.send(b"a", deadline=1.0)
    ((request, (slot,)),) = followers
    assert (rig.stages.now, rig.stages.later) == ([], [[slot]])
    rig.stages.serve(slot, 1)
    assert request.wait(0)


def test_a_slot_that_is_served_on_the_spot_serves_its_double(rig):
    def serve(slots):
        for slot in slots:
            rig.stages.serve(slot, 5)

    request, _ = rig.send(b"a", b"a", decode=serve)
    assert request.wait(0)
    assert request.vectors[:, 0].tolist() == [5, 5]


def test_a_slot_that_fails_on_the_spot_leaves_its_double_to_the_others(rig):
    def refuse(slots):
        for slot in slots:
            slot.settle(Unavailable("closed"))

    request, (_, double) = rig.send(b"a", b"a", decode=refuse)
    assert rig.stages.later == [[double]]
    rig.stages.serve(double, 5)
    assert request.wait(0)
    assert request.errors.keys() == {0}


def test_a_defect_in_decoding_strands_nobody(rig, caplog):
    def broken(slots):
        raise RuntimeError("a defect")

    _, (leader,) = rig.send(b"a")
    first, _ = rig.send(b"a", later=broken)
    second, (heir,) = rig.send(b"a")
    leader.settle(Unavailable("away"))
    assert first.errors[0].reason == "internal"
    assert "a defect" in caplog.text
    assert rig.stages.later == [[heir]]
    rig.stages.serve(heir, 1)
    assert second.wait(0)


def test_models_do_not_share_vectors(rig):
    other = card_of(space="another")
    _, (mine,) = rig.send(b"a")
    _, (theirs,) = rig.send(b"a", card=other)
    assert rig.stages.now == [[mine], [theirs]]
    rig.stages.serve(mine, 1)
    rig.stages.serve(theirs, 2)
    assert rig.send(b"a", card=other)[0].vectors[0, 0] == 2


def test_callers_on_many_threads_are_all_answered_and_nothing_is_decoded_twice(rig):
    threads, texts = 6, [bytes([n]) for n in range(12)]
    start, requests, decoded = threading.Barrier(threads), [], []

    def decode(slots):
        for slot in slots:
            decoded.append(slot.image.data)
            rig.stages.serve(slot, slot.image.data[0])

    def work():
        start.wait()
        requests.extend(rig.send(text, b"x" + text, decode=decode, later=decode)[0] for text in texts)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(requests) == threads * len(texts)
    for request in requests:
        assert request.wait(0)
        assert not request.errors
    assert set(Counter(decoded).values()) == {1}


IMAGES = st.one_of(
    st.builds(EncodedImage, st.binary(max_size=8)),
    st.builds(
        PixelTensor,
        st.binary(max_size=8),
        st.sampled_from(["uint8", "float32", "uint8'"]),
        st.lists(st.integers(0, 9), max_size=3).map(tuple),
    ),
)
NAMES = st.text("ab',) ", max_size=4)
CLAIMS = st.tuples(IMAGES, NAMES, NAMES, st.sampled_from(["exact", "fast"]))


@given(CLAIMS, CLAIMS)
def test_keys_are_equal_where_everything_is(one, other):
    keys = [key_of(image, card_of(artifact, space), mode) for image, artifact, space, mode in (one, other)]
    assert (keys[0] == keys[1]) is (one == other)
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize(
    "changed",
    [
        (EncodedImage(b"b"), "m", "s", "exact"),
        (EncodedImage(b"a"), "n", "s", "exact"),
        (EncodedImage(b"a"), "m", "t", "exact"),
        (EncodedImage(b"a"), "m", "s", "fast"),
        (PixelTensor(b"a", "uint8", (1, 1, 1)), "m", "s", "exact"),
    ],
)
def test_each_part_of_a_key_counts(changed):
    def key(image, artifact, space, mode):
        return key_of(image, card_of(artifact, space), mode)

    assert key(*changed) != key(EncodedImage(b"a"), "m", "s", "exact")


def test_the_shape_of_equal_bytes_counts():
    data, card = bytes(24), card_of("m", "s")
    shapes = [(2, 4, 3), (4, 2, 3)]
    assert len({key_of(PixelTensor(data, "uint8", shape), card, "exact") for shape in shapes}) == 2
    assert len({key_of(PixelTensor(data, dtype, shapes[0]), card, "exact") for dtype in ("uint8", "i1")}) == 2
