"""One builder at a time: of processes that share a folder, and of machines that share an object store."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.index.storage.conftest import COLLECTION, UID, Clock, never

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import FailedPrecondition
from trunkline_service.index.card import IndexCard
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
        store.sweep(COLLECTION, UID, keep=[], is_now=never)
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
