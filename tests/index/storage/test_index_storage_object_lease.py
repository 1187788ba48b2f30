"""The right to build where machines share an object store, whatever their clocks say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.index.storage.conftest import COLLECTION, UID, Clock, never
from tests.index.storage.test_index_storage_lease import holder, lease

from trunkline_service.errors import FailedPrecondition, StorageError
from trunkline_service.index.card import IndexCard
from trunkline_service.index.storage.bucket import Bucket
from trunkline_service.index.storage.object_lease import ObjectLease
from trunkline_service.index.storage.store import IndexStore

CardOf = Callable[..., IndexCard]
Write = Callable[[Path], None]


class Renewals:
    """A lease of an object whose clocks are in hand."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self.clock = clock
        self.lease = ObjectLease(bucket, "flowers/u.lease", "flowers", clock, self.pause, self.monotonic)

    def pause(self, seconds: float) -> None:
        self.clock.wait(seconds)

    def monotonic(self) -> float:
        return self.clock().timestamp()


def test_the_end_is_put_off(s3_bucket: str, clock: Clock) -> None:
    bucket = Bucket(f"{s3_bucket}/data")
    first, second = Renewals(bucket, clock), Renewals(bucket, clock)
    with first.lease.hold() as held:
        clock.wait(40)
        held.renew()
        clock.wait(40)
        assert not held.lost()
        with pytest.raises(FailedPrecondition), second.lease.hold():
            pytest.fail("two at once")


def test_who_cannot_put_off_the_end_is_out_before_it(s3_bucket: str, clock: Clock) -> None:
    bucket = Bucket(f"{s3_bucket}/data")
    first, second = Renewals(bucket, clock), Renewals(bucket, clock)
    with first.lease.hold() as held:
        clock.wait(50)
        assert held.lost()
        clock.wait(10)
        with second.lease.hold() as other:
            held.renew()
            assert held.lost()
            with pytest.raises(FailedPrecondition):
                held.confirm()
            assert not other.lost()
            other.confirm()


class Renewing(Renewals):
    """One whose wait is the other's time to write."""

    def __init__(self, bucket: Bucket, clock: Clock, other: ObjectLease) -> None:
        super().__init__(bucket, clock)
        self.other = other
        self.waited = 0.0

    def pause(self, seconds: float) -> None:
        super().pause(seconds)
        self.waited += seconds
        if self.waited == 15:
            self.other.renew()


def test_a_clock_that_is_ahead_takes_no_lease_of_who_lives(s3_bucket: str, clock: Clock) -> None:
    bucket, ahead = Bucket(f"{s3_bucket}/data"), Clock()
    ahead.wait(61)
    first = Renewals(bucket, clock)
    second = Renewing(bucket, ahead, first.lease)
    with first.lease.hold() as held:
        clock.wait(1)
        with pytest.raises(FailedPrecondition, match="is being built by process"), second.lease.hold():
            pytest.fail("two at once")
        assert second.waited == 15
        held.confirm()


def test_one_that_was_let_go_is_free_for_a_clock_that_is_behind(s3_bucket: str, clock: Clock) -> None:
    bucket, behind = Bucket(f"{s3_bucket}/data"), Clock()
    behind.wait(-600)
    with Renewals(bucket, clock).lease.hold():
        pass
    before = behind()
    with Renewals(bucket, behind).lease.hold():
        assert behind() == before


def test_one_who_died_long_ago_is_not_waited_for(
    s3_store: Callable[..., IndexStore], s3_bucket: str, clock: Clock
) -> None:
    with holder(f"{s3_bucket}/data", clock()) as process:
        process.kill()
        process.wait()
    clock.wait(3600)
    before = clock()
    with lease(s3_store()):
        assert clock() == before


def test_a_clock_that_is_ahead_sweeps_nothing_of_who_lives(
    s3_store: Callable[..., IndexStore], s3_bucket: str, tmp_path: Path, clock: Clock
) -> None:
    bucket, half = Bucket(f"{s3_bucket}/data/indexes"), f"{COLLECTION}/{UID}/{1:012d}-aa/vectors.f32"
    ahead = Clock()
    ahead.wait(61)
    other = IndexStore(f"{s3_bucket}/data", tmp_path / "two", clock=ahead, pause=ahead.wait)
    with lease(s3_store("one")):
        bucket.put(half, b"half")
        other.sweep(COLLECTION, UID, keep=[], is_now=never)
        assert bucket.get(half) is not None


def test_a_write_whose_answer_was_lost_keeps_the_lease(
    s3_bucket: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(f"{s3_bucket}/data")
    swap = bucket.swap

    def deaf(*given: Any) -> None:
        swap(*given)

    with Renewals(bucket, clock).lease.hold() as held:
        monkeypatch.setattr(bucket, "swap", deaf)
        clock.wait(1)
        held.renew()
        monkeypatch.undo()
        clock.wait(1)
        held.confirm()
        assert not held.lost()


def test_a_drop_waits_until_the_builder_has_cleared_away(
    s3_store: Callable[..., IndexStore], card_of: CardOf, write_base: Write, s3_bucket: str, clock: Clock
) -> None:
    """The builder is in the middle of its uploads; it notices while the other machine waits."""
    builder = s3_store("one")
    stack = lease(builder)
    held = stack.__enter__()
    waited: list[float] = []

    def builder_goes_on(seconds: float) -> None:
        waited.append(seconds)
        with pytest.raises(FailedPrecondition, match="was dropped"):
            builder.publish(card_of(), write_base, held)
        stack.__exit__(None, None, None)

    other = IndexStore(f"{s3_bucket}/data", Path("unused"), clock=clock, pause=builder_goes_on)
    other.drop(COLLECTION, UID)
    assert waited == [1.0]
    assert [path for path in Bucket(f"{s3_bucket}/data/indexes").paths("flowers/") if "/00" in path] == []
    with lease(builder):
        pass


def test_a_drop_waits_for_a_dead_builder_until_its_time_is_over(
    s3_store: Callable[..., IndexStore], s3_bucket: str, clock: Clock
) -> None:
    with holder(f"{s3_bucket}/data", clock()) as process:
        process.kill()
        process.wait()
    before = clock()
    s3_store().drop(COLLECTION, UID)
    assert clock() - before == timedelta(seconds=60)
    with lease(s3_store()):
        pass


def test_a_lease_that_is_none_is_told(s3_store: Callable[..., IndexStore], s3_bucket: str) -> None:
    Bucket(f"{s3_bucket}/data/indexes").put(f"{COLLECTION}/{UID}.lease", b"{}")
    with pytest.raises(FailedPrecondition, match="is no lease of an index"), lease(s3_store()):
        pytest.fail("taken")


def test_an_end_is_made_where_others_keep_writing_first(
    s3_store: Callable[..., IndexStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = s3_store()
    with lease(store):
        pass
    monkeypatch.setattr(Bucket, "swap", lambda *_: None)
    with pytest.raises(StorageError, match="others kept writing first"):
        store.drop(COLLECTION, UID)
