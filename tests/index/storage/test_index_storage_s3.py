"""What is special about an object store: one machine builds, others fetch, and caches hold no more than the store."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.index.storage.conftest import COLLECTION, UID, Clock, never
from tests.index.storage.test_index_storage_store import FILES, flip, names

from trunkline_service.collections.spec import CollectionSpec
from trunkline_service.errors import FailedPrecondition, IndexDamaged, StorageError
from trunkline_service.index.card import IndexCard
from trunkline_service.index.storage import bucket as bucket_module
from trunkline_service.index.storage.base import load_base
from trunkline_service.index.storage.bucket import Bucket
from trunkline_service.index.storage.store import IndexStore

CardOf = Callable[..., IndexCard]
Write = Callable[[Path], None]
Machine = Callable[..., IndexStore]


@pytest.fixture
def bucket(s3_bucket: str) -> Bucket:
    return Bucket(f"{s3_bucket}/data/indexes")


def test_the_keys_are_those_of_a_folder(
    s3_store: Machine, bucket: Bucket, card_of: CardOf, write_base: Write
) -> None:
    card = s3_store().publish(card_of(), write_base)
    home = f"{COLLECTION}/{UID}/{card.build}"
    assert sorted(bucket.paths(f"{COLLECTION}/")) == [
        f"{home}/{name}" for name in sorted(["card.json", *FILES])
    ]


def test_another_machine_fetches_it_once(
    s3_store: Machine,
    card_of: CardOf,
    write_base: Write,
    spec: CollectionSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = s3_store("one").publish(card_of(), write_base)
    other = s3_store("two")
    card = other.newest(COLLECTION, UID, spec)
    assert card == made
    load_base(other.open(card), card)

    def no_more(*_: Any) -> None:
        pytest.fail("fetched again")

    monkeypatch.setattr(Bucket, "download", no_more)
    for store in (s3_store("one"), other):
        store.open(card)


def test_what_was_damaged_in_a_cache_is_fetched_anew(
    s3_store: Machine, card_of: CardOf, write_base: Write
) -> None:
    store = s3_store()
    card = store.publish(card_of(), write_base)
    flip(store.open(card) / "vectors.f32")
    load_base(store.open(card), card)


@pytest.mark.parametrize("harm", ["missing", "truncated", "changed", "longer"])
def test_what_is_damaged_in_the_store_is_refused(
    s3_store: Machine, bucket: Bucket, card_of: CardOf, write_base: Write, tmp_path: Path, harm: str
) -> None:
    card = s3_store("one").publish(card_of(), write_base)
    path = f"{COLLECTION}/{UID}/{card.build}/rows.arrow"
    found = bucket.get(path)
    assert found is not None
    if harm == "missing":
        bucket.delete([path])
    else:
        changed = {
            "truncated": found.data[:-1],
            "changed": found.data[:-1] + b"?",
            "longer": found.data + b"?",
        }
        bucket.put(path, changed[harm])
    other = s3_store("two")
    if harm == "longer":
        # What follows the bytes of the card is nobody's.
        load_base(other.open(card), card)
        return
    with pytest.raises(IndexDamaged, match=r"rows\.arrow .*build the index again"):
        other.open(card)
    assert not [name for name in names(tmp_path / "two") if name.endswith("rows.arrow")]


def test_large_files_go_in_pieces(
    s3_store: Machine, card_of: CardOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "_PIECE", 5 * 1024 * 1024)
    large = os.urandom(11 * 1024 * 1024)
    card = s3_store("one").publish(card_of(), lambda folder: write(folder / "vectors.f32", large))
    assert (s3_store("two").open(card) / "vectors.f32").read_bytes() == large


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def test_an_upload_stops_where_the_lease_is_lost(
    s3_store: Machine, bucket: Bucket, card_of: CardOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "_PIECE", 1024 * 1024)
    asked: list[bool] = []

    class Lost:
        def lost(self) -> bool:
            asked.append(True)
            return len(asked) > 3

        def confirm(self) -> None:
            pytest.fail("too late")

    with pytest.raises(FailedPrecondition, match="was dropped while it was built"):
        s3_store().publish(
            card_of(), lambda folder: write(folder / "vectors.f32", bytes(50 * 1024 * 1024)), Lost()
        )
    assert len(asked) == 4
    assert bucket.paths(f"{COLLECTION}/") == []


def test_an_upload_that_fails_leaves_no_object(
    s3_store: Machine, bucket: Bucket, card_of: CardOf, write_base: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise StorageError("the network is down")

    monkeypatch.setattr(Bucket, "put", refused)
    with pytest.raises(StorageError, match="the network is down"):
        s3_store().publish(card_of(), write_base)
    assert bucket.paths(f"{COLLECTION}/") == []


def test_files_without_a_card_are_no_build_and_are_swept_when_nobody_builds(
    s3_store: Machine, bucket: Bucket, card_of: CardOf, write_base: Write, spec: CollectionSpec, clock: Clock
) -> None:
    store, other = s3_store("one"), s3_store("two")
    kept = store.publish(card_of(1), write_base)
    half = f"{COLLECTION}/{UID}/{card_of(2).build}/vectors.f32"
    bucket.put(half, b"half")
    assert store.newest(COLLECTION, UID, spec) == kept
    with store.lease(COLLECTION, UID):
        other.sweep(COLLECTION, UID, [kept.build], is_now=never)
        assert bucket.get(half) is not None
        store.sweep(COLLECTION, UID, [kept.build], is_now=never)
        assert bucket.get(half) is None
    bucket.put(half, b"half")
    other.sweep(COLLECTION, UID, [kept.build], is_now=never)
    assert bucket.get(half) is None
    assert store.newest(COLLECTION, UID, spec) == kept


def test_cards_come_last_and_go_first(
    s3_store: Machine, card_of: CardOf, write_base: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    for name in ("upload", "put"):
        known = getattr(Bucket, name)

        def told(self: Bucket, path: str, *given: Any, known: Callable[..., None] = known) -> None:
            seen.append(path)
            known(self, path, *given)

        monkeypatch.setattr(Bucket, name, told)
    monkeypatch.setattr(Bucket, "delete", lambda _, paths: seen.extend(paths))
    for version in (1, 2):
        s3_store().publish(card_of(version), write_base)
    s3_store().drop(COLLECTION, UID)
    kinds = [path.endswith("/card.json") for path in seen]
    count = len(FILES)
    assert kinds == 2 * [*count * [False], True] + 2 * [True] + 2 * count * [False]


def test_of_two_that_fetch_at_once_both_have_it(
    s3_store: Machine, card_of: CardOf, write_base: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = s3_store("one").publish(card_of(), write_base)
    download, slow = Bucket.download, [True]

    def slowly(*given: Any) -> None:
        if slow and slow.pop():
            s3_store("two").open(card)
        download(*given)

    monkeypatch.setattr(Bucket, "download", slowly)
    load_base(s3_store("two").open(card), card)
    assert len([name for name in names(tmp_path / "two") if name.endswith("vectors.f32")]) == 1


def test_other_machines_forget_what_was_dropped(
    s3_store: Machine, card_of: CardOf, write_base: Write, spec: CollectionSpec, tmp_path: Path
) -> None:
    one, two = s3_store("one"), s3_store("two")
    for uid in (UID, "older"):
        two.open(one.publish(card_of(uid=uid), write_base))
    # Of a process that was killed while it fetched.
    left = next((tmp_path / "two").glob(f"*/{COLLECTION}/{UID}")) / ".building-1" / "files" / "vectors.f32"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"rows")
    for uid in (UID, "older"):
        one.drop(COLLECTION, uid)
    assert two.newest(COLLECTION, UID, spec) is None
    assert names(tmp_path / "two") == []


def test_a_store_that_cannot_be_reached_is_told(
    s3_store: Machine, spec: CollectionSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match="can't be listed"):
        IndexStore("s3://nobody-has-this-bucket/data", Path("unused")).newest(COLLECTION, UID, spec)
