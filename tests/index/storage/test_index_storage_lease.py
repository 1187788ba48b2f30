"""One builder at a time: of processes that share a folder, and of machines that share an object store."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.index.storage.conftest import COLLECTION, UID, Clock

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import FailedPrecondition, StorageError
from trunkline_service.index.card import IndexCard
from trunkline_service.index.storage.bucket import Bucket
from trunkline_service.index.storage.object_lease import ObjectLease
from trunkline_service.index.storage.store import IndexStore

CardOf = Callable[..., IndexCard]
Write = Callable[[Path], None]
HOLDER = """
import sys
from datetime import datetime
from trunkline_service.index.storage.store import IndexStore

store = IndexStore(sys.argv[1], clock=lambda: datetime.fromisoformat(sys.argv[2]))
with store.lease("flowers", "0123abcd"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(data: str, now: datetime) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease, until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, data, now.isoformat()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_of_two_processes_one_builds(store: IndexStore, data: Path, clock: Clock) -> None:
    with holder(str(data), clock()) as process:
        assert store.building(COLLECTION, UID)
        with pytest.raises(FailedPrecondition, match="is being built by another process"), lease(store):
            pytest.fail("two at once")
        with store.lease(COLLECTION, "other"):
            pass
        process.kill()
        process.wait()
        assert not store.building(COLLECTION, UID)
        with lease(store):
            assert store.building(COLLECTION, UID)
    assert not store.building(COLLECTION, UID)


def test_of_two_machines_one_builds_and_a_dead_one_is_waited_for_a_minute(
    s3_store: Callable[..., IndexStore], s3_bucket: str, clock: Clock
) -> None:
    store = s3_store()
    with holder(f"{s3_bucket}/data", clock()) as process:
        assert store.building(COLLECTION, UID)
        with pytest.raises(FailedPrecondition, match=f"built by process {process.pid} of"), lease(store):
            pytest.fail("two at once")
        process.kill()
        process.wait()
    with pytest.raises(FailedPrecondition), lease(store):
        pytest.fail("not yet")
    clock.wait(60)
    assert not store.building(COLLECTION, UID)
    with lease(store):
        assert store.building(COLLECTION, UID)
    assert not store.building(COLLECTION, UID)


def lease(store: IndexStore) -> Any:
    return store.lease(COLLECTION, UID)


def test_a_lease_that_ended_can_be_taken_at_once(any_store: IndexStore) -> None:
    for _ in range(2):
        with lease(any_store) as held:
            held.confirm()
            assert not held.lost()
            with pytest.raises(FailedPrecondition), lease(any_store):
                pytest.fail("two at once")


def test_looking_whether_somebody_builds_keeps_nobody_out(
    store: IndexStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held_by_another() -> None:
        raise BlockingIOError

    between_opening_and_locking(monkeypatch, held_by_another)
    with lease(store) as held:
        assert not held.lost()


def between_opening_and_locking(monkeypatch: pytest.MonkeyPatch, deed: Callable[[], Any]) -> None:
    """Does something once, when a file is open and about to be locked."""
    import fcntl

    lock, done = fcntl.flock, []

    def flock(*given: Any) -> None:
        if not done:
            done.append(True)
            deed()
        lock(*given)

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_lock_on_a_file_that_was_dropped_is_no_lease(
    store: IndexStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    between_opening_and_locking(monkeypatch, lambda: store.drop(COLLECTION, UID))
    with lease(store) as held:
        assert not held.lost()
        with pytest.raises(FailedPrecondition), lease(store):
            pytest.fail("two at once")


def test_a_folder_that_was_swept_before_it_was_locked_is_made_anew(
    store: IndexStore, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = data / "indexes" / COLLECTION / UID
    between_opening_and_locking(monkeypatch, lambda: [shutil.rmtree(path) for path in home.iterdir()])
    with store.scratch(COLLECTION, UID) as scratch:
        store.sweep(COLLECTION, UID, keep=[])
        assert scratch.is_dir()


def test_a_drop_takes_the_lease_away(store: IndexStore) -> None:
    with lease(store) as held:
        store.drop(COLLECTION, UID)
        assert held.lost()
        with pytest.raises(FailedPrecondition, match="was dropped while it was built"):
            held.confirm()
        with lease(store) as second:
            assert not second.lost()
        assert held.lost()


def test_a_build_whose_lease_was_lost_does_not_appear(
    any_store: IndexStore, card_of: CardOf, write_base: Write, spec: CollectionSpec
) -> None:
    with lease(any_store) as held:
        any_store.drop(COLLECTION, UID)
        with pytest.raises(FailedPrecondition, match="was dropped while it was built"):
            any_store.publish(card_of(), write_base, held)
    assert any_store.newest(COLLECTION, UID, spec) is None


# Object stores ---------------------------------------------------------------------------------------------


class Renewals:
    """A lease of an object whose clocks are in hand."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self.clock = clock
        self.lease = ObjectLease(bucket, "flowers/u.lease", "flowers", clock, self.monotonic)

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
