"""The embedding cache: laws of claims, fills and resignations, by property; and from many threads."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trunkline_service.batching.cache import ENTRY_OVERHEAD_BYTES, EmbeddingCache
from trunkline_service.errors import CorruptImage, DeadlineExpired, Overloaded

DIM = 4
ENTRY = DIM * 4 + ENTRY_OVERHEAD_BYTES
KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
LANES = st.sampled_from(["interactive", "bulk"])


class Claim:
    """A claimant that writes down what it hears. It answers from within the cache's calls."""

    def __init__(self, cache, key=b"k", lane="interactive"):
        self.cache, self.key, self.lane = cache, key, lane
        self.wants, self.heard, self.vector, self.error = True, [], None, None

    def found(self, vector):
        self._hear("found")
        self.vector = vector

    def lead(self):
        self._hear("lead" if self.wants else "gone")
        return self.wants

    def failed(self, error):
        self._hear("failed")
        self.error = error

    @property
    def state(self):
        return self.heard[-1] if self.heard else "waits"

    def _hear(self, what):
        # Hangs if the cache's lock is held.
        assert not self.cache.forget(self)
        self.heard.append(what)


def claim(cache, key=b"k", lane="interactive"):
    claimant = Claim(cache, key, lane)
    cache.claim(key, claimant)
    return claimant


def vector(value=1.0):
    return np.full(DIM, value, np.float32)


class Cache(RuleBasedStateMachine):
    """Claims of four keys in two lanes over a cache that holds two vectors, beside a model of it."""

    def __init__(self):
        super().__init__()
        self.results = Counter()
        self.cache = EmbeddingCache(2 * ENTRY + 1, self)
        self.claims, self.kept, self.fills = [], OrderedDict(), 0

    def cached(self, result):
        self.results[result] += 1

    def those(self, state, key=None, lane=None):
        return [
            c for c in self.claims if c.state == state and key in (None, c.key) and lane in (None, c.lane)
        ]

    @rule(key=KEYS, lane=LANES)
    def claim(self, key, lane):
        leaders = self.those("lead", key)
        if lane == "interactive":
            leaders = self.those("lead", key, lane)
        claimant = claim(self.cache, key, lane)
        self.claims.append(claimant)
        if key in self.kept:
            self.kept.move_to_end(key)
            assert claimant.heard == ["found"]
            np.testing.assert_array_equal(claimant.vector, self.kept[key])
        else:
            assert claimant.heard == ([] if leaders else ["lead"])

    @precondition(lambda self: self.those("lead"))
    @rule(data=st.data())
    def fill(self, data):
        leader = data.draw(st.sampled_from(self.those("lead")))
        others = self.those("lead", leader.key)
        waiting = self.those("waits", leader.key)
        self.fills += 1
        new = vector(self.fills)
        self.cache.fill(leader.key, new)
        for follower in waiting:
            assert follower.state == "found"
            np.testing.assert_array_equal(follower.vector, new)
        for other in others:
            other.heard.append("done")
        if leader.key not in self.kept:
            self.kept[leader.key] = new
            if len(self.kept) > 2:
                self.kept.popitem(last=False)

    @precondition(lambda self: self.those("lead"))
    @rule(data=st.data(), error=st.sampled_from([None, CorruptImage("x"), DeadlineExpired("x")]))
    def resign(self, data, error):
        leader = data.draw(st.sampled_from(self.those("lead")))
        waiting = self.those("waits", leader.key)
        others = [c for c in self.those("lead", leader.key) if c is not leader]
        leader.heard.append("done")
        self.cache.resign(leader, error)
        if isinstance(error, CorruptImage):
            assert all(c.state == "failed" and c.error is error for c in waiting)
            for other in others:
                other.heard.append("done")
        else:
            assert not any(c.state in {"found", "failed"} for c in waiting)

    @precondition(lambda self: self.those("waits"))
    @rule(data=st.data())
    def lose_interest(self, data):
        data.draw(st.sampled_from(self.those("waits"))).wants = False

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def forget(self, data):
        claimant = data.draw(st.sampled_from(self.claims))
        waited = claimant.state == "waits"
        assert self.cache.forget(claimant) is waited
        if waited:
            claimant.heard.append("forgotten")

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), error=st.sampled_from([None, CorruptImage("x")]))
    def a_resignation_of_one_that_does_not_lead_is_nothing(self, data, error):
        claimant = data.draw(st.sampled_from(self.claims))
        if claimant.state != "lead":
            before = [c.state for c in self.claims]
            self.cache.resign(claimant, error)
            assert [c.state for c in self.claims] == before

    @invariant()
    def leaders_are_few_and_nobody_waits_in_vain(self):
        most = Counter((c.key, c.lane) for c in self.those("lead"))
        assert all(count == 1 for count in most.values())
        for waiting in self.those("waits"):
            lane = "interactive" if waiting.lane == "interactive" else None
            assert self.those("lead", waiting.key, lane)

    @invariant()
    def everybody_hears_one_answer(self):
        for claimant in self.claims:
            assert claimant.heard in (
                [],
                ["found"],
                ["failed"],
                ["gone"],
                ["forgotten"],
                ["lead"],
                ["lead", "done"],
            )

    @invariant()
    def what_is_counted_is_so(self):
        assert self.cache.pending == len(self.those("waits")) + len(self.those("lead"))
        assert self.cache._flights.keys() == {c.key for c in self.those("lead")}
        assert self.cache.entries == len(self.kept) <= 2
        assert self.cache.nbytes == ENTRY * len(self.kept)
        assert self.results.total() == len(self.claims)
        assert self.results["hit"] + self.results["joined"] + self.results["miss"] == len(self.claims)

    def teardown(self):
        while leaders := self.those("lead"):
            self.cache.fill(leaders[0].key, vector())
            for leader in self.those("lead", leaders[0].key):
                leader.heard.append("done")
        assert not self.those("waits")
        assert self.cache.pending == 0


TestCache = Cache.TestCase
TestCache.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_hits_are_counted_apart_from_those_that_joined():
    results = []

    class Observer:
        def cached(self, result):
            results.append(result)

    cache = EmbeddingCache(1 << 20, Observer())
    claim(cache)
    claim(cache)
    cache.fill(b"k", vector())
    claim(cache)
    assert results == ["miss", "joined", "hit"]


def test_a_hit_is_a_read_only_copy():
    cache, made = EmbeddingCache(1 << 20), vector(3.0)
    claim(cache)
    cache.fill(b"k", made)
    made[:] = 9.0
    found = claim(cache).vector
    np.testing.assert_array_equal(found, vector(3.0))
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1.0


def test_a_row_of_a_large_array_does_not_keep_the_array():
    cache = EmbeddingCache(1 << 20)
    cache.fill(b"k", np.ones((1000, DIM), np.float32)[3])
    assert claim(cache).vector.base is None


@pytest.mark.parametrize("most", [0, ENTRY - 1])
def test_what_does_not_fit_is_computed_once_all_the_same(most):
    cache = EmbeddingCache(most)
    leader, follower = claim(cache), claim(cache)
    cache.fill(b"k", vector())
    assert (leader.state, follower.state, claim(cache).state) == ("lead", "found", "lead")
    assert (cache.entries, cache.nbytes) == (0, 0)


def test_vectors_of_several_lengths_share_the_bound():
    long = np.ones(DIM + ENTRY // 4, np.float32)
    cache = EmbeddingCache(3 * ENTRY)
    for key in (b"a", b"b", b"c"):
        cache.fill(key, vector())
    cache.fill(b"long", long)
    assert cache.nbytes == 3 * ENTRY
    assert [claim(cache, key).state for key in (b"a", b"b", b"c", b"long")] == [
        "lead",
        "lead",
        "found",
        "found",
    ]


def test_an_interactive_claimant_does_not_stand_behind_a_bulk_leader():
    cache = EmbeddingCache(1 << 20)
    bulk = claim(cache, lane="bulk")
    behind = claim(cache, lane="bulk")
    first = claim(cache)
    second = claim(cache)
    assert (behind.state, first.state, second.state) == ("waits", "lead", "waits")
    cache.fill(b"k", vector())
    assert behind.state == second.state == "found"
    # The other leader is late: its vector is no news, and its failure is nobody's.
    cache.fill(b"k", vector(2.0))
    cache.resign(bulk, CorruptImage("late"))
    np.testing.assert_array_equal(claim(cache).vector, vector())


def test_interactive_followers_lead_before_bulk_ones():
    cache = EmbeddingCache(1 << 20)
    leader = claim(cache)
    bulk, interactive = claim(cache, lane="bulk"), claim(cache)
    cache.resign(leader, Overloaded("full", 1.0))
    assert (bulk.state, interactive.state) == ("waits", "lead")


def test_thousands_of_followers_that_went_away_do_not_exhaust_the_stack():
    cache = EmbeddingCache(1 << 20)
    leader = claim(cache)
    gone = [claim(cache) for _ in range(5000)]
    for claimant in gone:
        claimant.wants = False
    patient = claim(cache)
    cache.resign(leader, DeadlineExpired("late"))
    assert {claimant.state for claimant in gone} == {"gone"}
    assert patient.state == "lead"


def test_a_follower_that_raises_does_not_rob_the_others():
    class Broken(Claim):
        def found(self, vector):
            raise RuntimeError("a defect")

    cache = EmbeddingCache(1 << 20)
    claim(cache)
    cache.claim(b"k", Broken(cache))
    follower = claim(cache)
    with pytest.raises(RuntimeError, match="a defect"):
        cache.fill(b"k", vector())
    assert follower.state == "found"


def test_many_threads_compute_each_key_once():
    cache, keys, threads = EmbeddingCache(1 << 20), [bytes([n]) for n in range(20)], 6
    start, made, errors = threading.Barrier(threads), [], []

    def work():
        try:
            start.wait()
            mine = []
            for key in keys:
                claimant = claim(cache, key)
                mine.append(claimant)
                if claimant.heard == ["lead"]:
                    cache.fill(key, vector(key[0]))
            made.append(mine)
        except BaseException as exc:  # noqa: BLE001 - told to the test's own thread
            errors.append(exc)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    everyone = [claimant for mine in made for claimant in mine]
    assert len(everyone) == threads * len(keys)
    assert Counter(c.key for c in everyone if c.heard == ["lead"]) == Counter(keys)
    for claimant in everyone:
        assert claimant.heard in (["lead"], ["found"])
        if claimant.heard == ["found"]:
            np.testing.assert_array_equal(claimant.vector, vector(claimant.key[0]))
    assert cache.pending == 0
